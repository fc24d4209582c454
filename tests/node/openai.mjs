// OpenAI's own client for JavaScript, unchanged but for the address. One step of the test's a time: the script's name
// is the first argument; what it prints is one line of JSON.
import OpenAI from 'openai';

const client = new OpenAI({
  apiKey: process.env.MIELTO_API_KEY,
  baseURL: process.env.BASE_URL,
  defaultHeaders: { 'x-user-id': process.env.USER_ID },
  maxRetries: Number(process.env.MAX_RETRIES ?? 0),
  timeout: Number(process.env.TIMEOUT_MS ?? 30000),
});
const messages = [{ role: 'user', content: 'Where is the kettle?' }];
const tools = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }];

const steps = {
  async whole() {
    const { data, response, request_id } = await client.chat.completions.create({ model: 'gpt-4', messages }).withResponse();
    return {
      text: data.choices[0].message.content,
      usage: data.usage.total_tokens,
      model: data.model,
      conversation: response.headers.get('x-aforesaid-conversation-id'),
      request: request_id,
    };
  },
  async stream() {
    const stream = await client.chat.completions.create({
      model: 'gpt-4', messages, stream: true, stream_options: { include_usage: true },
    });
    let text = '';
    let usage = null;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta?.content ?? '';
      usage = chunk.usage ?? usage;
    }
    return { text, usage: usage.total_tokens };
  },
  async helper() {
    const runner = client.chat.completions.stream({ model: 'gpt-4', messages });
    const seen = [];
    runner.on('content', (delta) => seen.push(delta));
    const final = await runner.finalChatCompletion();
    return { text: final.choices[0].message.content, seen: seen.join('') };
  },
  async tools() {
    const asked = [{ role: 'user', content: 'How is the weather?' }];
    const first = await client.chat.completions.create({ model: 'gpt-4', messages: asked, tools });
    const message = first.choices[0].message;
    const results = message.tool_calls.map((call) => ({ role: 'tool', tool_call_id: call.id, content: 'rain' }));
    const last = await client.chat.completions.create({ model: 'gpt-4', messages: [...asked, message, ...results], tools });
    return { calls: message.tool_calls.map((call) => call.function.arguments), text: last.choices[0].message.content };
  },
  async several() {
    const answer = await client.chat.completions.create({
      model: 'gpt-4', messages, n: 3, response_format: { type: 'json_object' }, seed: 7, x_unknown: { a: [1] },
    });
    return { count: answer.choices.length, unknown: answer.x_answer };
  },
  async error() {
    try {
      await client.chat.completions.create({ model: 'gpt-4', messages, stream: process.env.STREAM === '1' });
    } catch (error) {
      return {
        kind: error.constructor.name, status: error.status, code: error.code, param: error.param, type: error.type,
        request: error.requestID, after: error.headers?.get('retry-after'), message: error.message,
      };
    }
    return { kind: null };
  },
  async broken() {
    const stream = await client.chat.completions.create({ model: 'gpt-4', messages, stream: true });
    let count = 0;
    try {
      for await (const _ of stream) count += 1;
    } catch (error) {
      return { count, kind: error.constructor.name, message: error.message };
    }
    return { count, kind: null };
  },
  async leave() {
    const stream = await client.chat.completions.create({ model: 'gpt-4', messages, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta?.content) break;
    }
    stream.controller.abort();
    return {};
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids, one: (await client.models.retrieve(ids[0])).id };
  },
};

console.log(JSON.stringify(await steps[process.argv[2]]()));
