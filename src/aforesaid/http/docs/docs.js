// Shows openapi.json. Nothing is loaded from elsewhere, nothing is written to the page as HTML text,
// and the key lives in its input field alone.

const METHODS = ["get", "post", "put", "patch", "delete"];
const main = document.getElementById("main");
const list = document.getElementById("list");
const search = document.getElementById("search");
const key = document.getElementById("key");

let description;
let operations = [];
let language = "curl";

// Building blocks

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
    else made.setAttribute(attribute, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== ""));
  return made;
}

// The little Markdown that descriptions use: paragraphs, `code`, **bold**.
function prose(text) {
  return (text || "").split(/\n\n+/).filter(Boolean).map((paragraph) => el("p", {}, inline(paragraph)));
}

function inline(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`") && part.length > 2) return el("code", {}, part.slice(1, -1));
    if (part.startsWith("**") && part.length > 4) return el("strong", {}, part.slice(2, -2));
    return part;
  });
}

function coloured(text) {
  const pieces = text.split(/("(?:[^"\\]|\\.)*"(?=\s*:)|"(?:[^"\\]|\\.)*"|(?<![\w./:-])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.:])|\b(?:true|false|null)\b)/i);
  return pieces.map((piece, place) => {
    if (place % 2 === 0) return piece;
    if (piece.startsWith('"')) return /^\s*:/.test(pieces[place + 1] || "") ? piece : el("span", { class: "s" }, piece);
    return el("span", { class: /^[-\d]/.test(piece) ? "n" : "l" }, piece);
  });
}

function block(value) {
  if (typeof value === "string") return el("pre", {}, value);
  return el("pre", {}, coloured(JSON.stringify(value, null, 2)));
}

// Shapes

function resolved(schema) {
  return schema && schema.$ref ? description.components.schemas[schema.$ref.split("/").pop()] : schema;
}

function kindOf(schema) {
  if (!schema) return "anything";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf && !schema.type) return schema.anyOf.map(kindOf).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `array of ${kindOf(schema.items || {})}`;
  if (schema.type === "null") return "null";
  return schema.type || "anything";
}

function rulesOf(schema) {
  const said = [];
  for (const one of [schema, ...(schema.anyOf || [])]) {
    if (one.minLength > 1 || (one.minLength === 1 && !one.maxLength)) said.push(`at least ${one.minLength} characters`);
    if (one.maxLength !== undefined) said.push(`${one.minLength ? `${one.minLength} to` : "at most"} ${one.maxLength.toLocaleString("en")} characters`);
    if (one.maxItems !== undefined) said.push(`at most ${one.maxItems.toLocaleString("en")} items`);
    if (one.minimum !== undefined && one.maximum < 1e12) said.push(`${one.minimum.toLocaleString("en")} to ${one.maximum.toLocaleString("en")}`);
    if (one.examples) said.push(`such as ${one.examples[0]}`);
  }
  if (schema.default !== undefined) said.push(`default ${JSON.stringify(schema.default)}`);
  return [...new Set(said)].join(" · ");
}

function insides(schema) {
  if (!schema) return [];
  if (schema.$ref) return [schema.$ref.split("/").pop()];
  if (schema.anyOf) return schema.anyOf.flatMap(insides);
  return schema.type === "array" ? insides(schema.items) : [];
}

function fields(schema, path = []) {
  const shape = resolved(schema);
  if (!shape || !shape.properties) return nested(schema, path);
  const required = new Set(shape.required || []);
  const names = Object.keys(shape.properties).sort((a, b) => required.has(b) - required.has(a));
  return el("div", { class: "fields" }, names.map((name) => {
    const inner = shape.properties[name];
    return field(name, inner, required.has(name), inner.description, nested(inner, path));
  }));
}

function nested(schema, path) {
  return [...new Set(insides(schema))].filter((name) => !path.includes(name)).map((name) => {
    const shape = description.components.schemas[name];
    return el("details", {}, el("summary", {}, name), prose(shape.description), fields({ $ref: `#/${name}` }, [...path, name]));
  });
}

function field(name, schema, required, about, more) {
  const rules = rulesOf(schema);
  return el("div", { class: "field" },
    el("span", { class: "name" }, name), el("span", { class: "type" }, kindOf(schema)),
    required ? el("span", { class: "must" }, "required") : "",
    about ? el("p", {}, inline(about)) : "", rules ? el("div", { class: "rules" }, rules) : "", more || "");
}

function parametersOf(operation, place) {
  return (operation.parameters || []).filter((parameter) => parameter.in === place);
}

function parameterFields(operation, place, title) {
  const found = parametersOf(operation, place);
  if (!found.length) return "";
  return [el("h3", {}, title), el("div", { class: "fields" },
    found.map((one) => field(one.name, one.schema, one.required, one.description)))];
}

function bodyFields(operation) {
  const body = operation.requestBody;
  if (!body) return "";
  const schema = body.content["application/json"].schema;
  const alone = schema.$ref ? fields(schema, [schema.$ref.split("/").pop()]) : [el("p", {}, kindOf(schema)), nested(schema, [])];
  const last = Array.isArray(alone) && alone[1][alone[1].length - 1];
  if (last) last.open = true;
  return [el("h3", {}, "Body"), el("p", { class: "quiet" }, body.description), alone];
}

function answers(operation) {
  return Object.entries(operation.responses).map(([status, response]) => {
    const good = status < 400;
    const parts = Object.entries(response.content || {}).map(([media, content]) => [
      el("p", { class: "quiet mono" }, media), content.example !== undefined ? block(content.example) : "",
      media.includes("event-stream") ? eventShape(content.schema) : nested(content.schema, []),
    ]);
    const heads = Object.entries(response.headers || {}).filter(([name]) => name !== "x-request-id");
    return el("details", { class: "answer", open: good },
      el("summary", {}, el("span", { class: good ? "status" : "status bad" }, status), el("span", {}, inline(response.description))),
      el("div", {}, parts, heads.length ? el("div", { class: "fields" },
        heads.map(([name, header]) => field(name, header.schema || {}, false, header.description))) : ""));
  });
}

function eventShape(schema) {
  const event = schema.properties.data.contentSchema;
  return [el("p", { class: "quiet" }, "Each event is a line data: with one JSON value."), nested(event, [])];
}

// Trying it

function form(operation) {
  const inputs = [];
  const rows = ["path", "query", "header"].flatMap((place) => parametersOf(operation, place).map((parameter) => {
    const input = el("input", { id: `in-${parameter.name}`, placeholder: placeholderOf(parameter), spellcheck: "false", autocomplete: "off" });
    // What an example sends is seen to be sent; only a path has to have something.
    if (parameter.name === "x-user-id" && parameter.example !== undefined) input.value = parameter.example;
    inputs.push({ parameter, input });
    return [el("label", { for: input.id, title: parameter.description }, parameter.name), input];
  }));
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  const body = content ? el("textarea", { spellcheck: "false", "aria-label": "Body" }) : undefined;
  if (body) {
    body.value = JSON.stringify(content.example, null, 2);
    body.rows = Math.min(24, body.value.split("\n").length + 1);
  }
  return { inputs, body, view: [rows.length ? el("div", { class: "form" }, rows) : "", body || ""] };
}

function placeholderOf(parameter) {
  if (parameter.example !== undefined) return parameter.example;
  if (parameter.schema.enum) return parameter.schema.enum.join(" | ");
  return parameter.schema.default === undefined ? "" : parameter.schema.default;
}

function requestOf(operation, { inputs, body }) {
  let path = operation.path;
  const query = new URLSearchParams();
  const headers = {};
  for (const { parameter, input } of inputs) {
    const value = input.value || (parameter.in === "path" ? parameter.example : "");
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (value && parameter.in === "query") query.set(parameter.name, value);
    else if (value) headers[parameter.name] = value;
  }
  if (needsHeader(operation)) headers.Authorization = "Bearer $AFORESAID_API_KEY";
  if (body) headers["Content-Type"] = "application/json";
  const base = new URL(".", location.href);
  const url = new URL(path.slice(1), base) + (query.size ? `?${query}` : "");
  return { method: operation.method, url, headers, body: body ? body.value : undefined };
}

// Where the key stands in the body, no header is needed.
function needsHeader(operation) {
  return operation.security.length > 0 && operation.security.every((way) => Object.keys(way).length);
}

const SAMPLES = {
  curl({ method, url, headers, body }) {
    const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    const lines = [`curl ${method === "GET" ? "" : `-X ${method} `}${quoted(url)}`];
    for (const [name, value] of Object.entries(headers)) {
      lines.push(`-H ${value.includes("$") ? `"${name}: ${value}"` : quoted(`${name}: ${value}`)}`);
    }
    if (body !== undefined) lines.push(`-d ${quoted(body)}`);
    return lines.join(" \\\n  ");
  },
  Python({ method, url, headers, body }) {
    const python = (text) => JSON.stringify(text).replace(/\\u([0-9a-f]{4})/g, "\\u$1");
    const shown = Object.entries(headers).filter(([name]) => name !== "Content-Type").map(([name, value]) =>
      `    ${python(name)}: ${name === "Authorization" ? 'f"Bearer {os.environ[\'AFORESAID_API_KEY\']}"' : python(value)},`);
    const lines = ["import os", "", "import requests", "", `answer = requests.${method.toLowerCase()}(`, `    ${python(url)},`];
    if (shown.length) lines.push("    headers={", ...shown.map((line) => `    ${line}`), "    },");
    if (body !== undefined) lines.push(`    json=${pythonValue(body)},`);
    return [...(shown.length ? lines : lines.slice(2)), ")", "answer.raise_for_status()", "print(answer.text)"].join("\n");
  },
  JavaScript({ method, url, headers, body }) {
    const shown = Object.entries(headers).map(([name, value]) =>
      `    ${JSON.stringify(name)}: ${name === "Authorization" ? "`Bearer ${process.env.AFORESAID_API_KEY}`" : JSON.stringify(value)},`);
    const lines = [`const answer = await fetch(${JSON.stringify(url)}, {`, `  method: "${method}",`];
    if (shown.length) lines.push("  headers: {", ...shown, "  },");
    if (body !== undefined) lines.push(`  body: JSON.stringify(${body.replaceAll("\n", "\n  ")}),`);
    return [...lines, "});", "console.log(answer.status, await answer.text());"].join("\n");
  },
};

function pythonValue(body) {
  try {
    const text = JSON.stringify(JSON.parse(body), null, 4);
    return text.replace(/("(?:[^"\\]|\\.)*")|\btrue\b|\bfalse\b|\bnull\b/g, (found, string) =>
      string || { true: "True", false: "False", null: "None" }[found]).replaceAll("\n", "\n    ");
  } catch {
    return "...";
  }
}

async function send(operation, filled, result, button) {
  const request = requestOf(operation, filled);
  if (key.value) {
    if (request.headers.Authorization) request.headers.Authorization = `Bearer ${key.value}`;
    if (request.body) request.body = withKey(request.body);
  } else {
    delete request.headers.Authorization;
  }
  button.disabled = true;
  const line = el("div", { class: "line quiet" }, "Waiting…");
  const shown = el("pre", {});
  result.replaceChildren(line, shown);
  const begun = performance.now();
  try {
    const answer = await fetch(request.url, { ...request, credentials: "omit", cache: "no-store" });
    line.replaceChildren(el("span", { class: answer.ok ? "status" : "status bad" }, `${answer.status} ${answer.statusText}`),
      el("span", { class: "quiet" }, ` in ${Math.round(performance.now() - begun)} ms`));
    const heads = [...answer.headers].filter(([name]) => /^(x-aforesaid|x-request|x-ratelimit|retry|idemp)/.test(name));
    result.insertBefore(el("div", { class: "heads" }, heads.map(([name, value]) => el("div", {}, `${name}: ${value}`))), shown);
    await pour(answer, shown);
  } catch (error) {
    line.replaceChildren(el("span", { class: "status bad" }, String(error.message || error)));
  } finally {
    button.disabled = false;
  }
}

// The bodies of one API hold the key themselves.
function withKey(body) {
  try {
    const value = JSON.parse(body);
    if (typeof value !== "object" || typeof value.api_key !== "string") return body;
    return JSON.stringify({ ...value, api_key: key.value });
  } catch {
    return body;
  }
}

async function pour(answer, shown) {
  if (!answer.body) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    text += piece.value;
    shown.textContent = text.slice(0, 200_000);
  }
  if (/json/.test(answer.headers.get("content-type") || "") && text.length < 200_000) {
    shown.replaceChildren(...coloured(JSON.stringify(JSON.parse(text), null, 2)));
  }
}

// Pages

function operationPage(operation) {
  const filled = form(operation);
  const sample = el("pre", { "aria-live": "off" });
  const tabs = Object.keys(SAMPLES).map((name) => el("button", { class: "tab", type: "button", role: "tab", onclick: () => { language = name; draw(); } }, name));
  const draw = () => {
    tabs.forEach((tab) => tab.setAttribute("aria-selected", String(tab.textContent === language)));
    sample.replaceChildren(...coloured(SAMPLES[language](requestOf(operation, filled))));
  };
  const copy = el("button", { class: "tab", type: "button", onclick: async () => {
    await navigator.clipboard.writeText(sample.textContent);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  } }, "Copy");
  const result = el("div", { class: "result" });
  const button = el("button", { class: "send", type: "button", onclick: () => send(operation, filled, result, button) }, "Send");
  [...filled.inputs.map(({ input }) => input), filled.body].forEach((input) => input && input.addEventListener("input", draw));
  draw();
  const also = operations.filter((other) => other["x-same-as"] === operation.operationId);
  return [
    el("div", { class: "operation" },
      el("article", {},
        el("h1", {}, operation.summary), pathLine(operation), prose(operation.description),
        also.length ? el("p", {}, "Also at ", also.map((other, place) => [place ? " and " : "", el("code", {}, other.path)]), ".") : "",
        parameterFields(operation, "path", "In the address"), parameterFields(operation, "query", "In the query"),
        parameterFields(operation, "header", "In headers"), bodyFields(operation), el("h3", {}, "Answers"), answers(operation)),
      el("div", { class: "side" },
        el("section", { class: "panel" }, el("header", { role: "tablist" }, el("span", {}, "Request"), tabs, copy), sample),
        el("section", { class: "panel" }, el("header", {}, el("span", {}, "Try it")),
          el("div", { class: "inside" }, filled.view, el("div", { class: "actions" }, button,
            el("span", { class: "quiet" }, operation.security.length ? "Sent with the key from the top of the page." : "No key is needed."))),
          result))),
  ];
}

function pathLine({ method, path }) {
  return el("div", { class: "path" }, el("span", { class: `verb ${method}` }, method),
    el("span", {}, path.split(/(\{\w+\})/).map((part) => (part.startsWith("{") ? el("b", {}, part) : part))));
}

function overview() {
  return [
    el("h1", {}, description.info.summary || description.info.title), prose(description.info.description),
    groups().map(([tag, members]) => [
      el("h2", {}, tag.name), prose(tag.description),
      el("table", { class: "overview" }, members.map((one) => el("tr", {},
        el("td", {}, el("span", { class: `verb ${one.method}` }, one.method)),
        el("td", {}, el("a", { href: `#/${one.operationId}` }, one.path)), el("td", {}, one.summary)))),
    ]),
    el("p", { class: "quiet" }, "For machines: ", el("a", { href: "openapi.json" }, "openapi.json")),
  ];
}

function groups() {
  const wanted = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const shown = operations.filter((one) => !one["x-same-as"] && wanted.every((word) => one.text.includes(word)));
  return description.tags.map((tag) => [tag, shown.filter((one) => one.tags[0] === tag.name)]).filter(([, members]) => members.length);
}

function drawList() {
  const current = location.hash.slice(2);
  const found = groups();
  list.replaceChildren(...found.flatMap(([tag, members]) => [
    el("h3", {}, tag.name),
    ...members.map((one) => el("a", { href: `#/${one.operationId}`, "aria-current": one.operationId === current ? "page" : undefined },
      el("span", { class: `verb ${one.method}` }, one.method === "DELETE" ? "DEL" : one.method), el("span", {}, one.summary))),
  ]));
  if (!found.length) list.replaceChildren(el("p", { class: "quiet" }, "Nothing is called that."));
}

function show() {
  const operation = operations.find((one) => one.operationId === location.hash.slice(2));
  main.replaceChildren(...(operation ? operationPage(operation) : overview()).flat(Infinity).filter(Boolean));
  document.title = operation ? `${operation.summary} · Aforesaid` : "Aforesaid: the interface";
  drawList();
  scrollTo(0, 0);
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

async function begin() {
  description = await (await fetch("openapi.json")).json();
  operations = Object.entries(description.paths).flatMap(([path, methods]) => METHODS.filter((method) => methods[method]).map((method) => {
    const operation = { ...methods[method], path, method: method.toUpperCase() };
    operation.text = [path, operation.summary, operation.description, operation.operationId, operation.method].join(" ").toLowerCase();
    return operation;
  }));
  document.getElementById("version").textContent = description.info.version;
  search.addEventListener("input", () => { drawList(); if (!location.hash.slice(2)) show(); });
  addEventListener("hashchange", () => { show(); main.focus({ preventScroll: true }); });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); search.focus(); }
  });
  show();
}

document.getElementById("theme").addEventListener("click", theme);
begin().catch((error) => main.replaceChildren(el("p", {}, `The description could not be read: ${error.message}`)));
