"""Function words by language: what tells a language in a short text, and what a search does not look for.

The order of ``FUNCTION_WORDS`` is part of the stored index (a language's place is its bit): append, never reorder.
"""

_ENGLISH = """a an the and or but if then of to in on at by for with from as is are was were be been being am do does
did doing done have has had having will would shall should can could may might must it its it's this that that's these
those there here i me my mine myself we us our ours you your yours he him his she her hers they them their theirs what
which who whom whose when where why how not no nor so than too very just about into over under again i'm i've i'll i'd
you're don't didn't can't won't isn't wasn't doesn't let's there's what's he's she's we're they're because while until
also any some such s t re ve ll d m"""

_GERMAN = """der die das den dem des ein eine einen einem einer eines und oder aber wenn dann von zu zum zur in im an
am auf bei für mit aus als ist sind war waren sein gewesen bin bist hat haben habe hatte hatten wird werden wurde
würde kann können könnte soll sollte muss müssen es dies diese dieser dieses dass daß da hier ich mich mir mein meine
meinen meiner wir uns unser du dich dir dein deine er ihn ihm seine sie ihr ihre ihren was welche welcher wer wen wem
wann wo warum wie nicht kein keine so sehr nur noch schon auch über unter nach vor doch mal ja nein um durch"""

_FRENCH = """à le la les un une des du de et ou mais si que qui quoi dont où dans sur sous par pour avec sans en au
aux est sont était étaient être été suis es sommes êtes a ai as avons avez ont avait avaient avoir fait faire je tu il
elle on nous vous ils elles me te se moi toi lui leur leurs mon ma mes ton ta tes son sa ses notre nos votre vos ce
cet cette ces ça cela c'est j'ai n'est qu'il quel quelle quels quelles quand comment pourquoi ne pas plus non oui très
aussi y car donc comme"""

_SPANISH = """el la los las un una unos unas de del y o pero si que qué quien quién cual cuál en sobre por para con
sin al a es son era eran ser sido soy eres somos fue fueron está están estoy estaba estar ha he has hemos han había
haber yo tú él ella nosotros ellos ellas usted ustedes me te se le les lo nos mi mis tu tus su sus nuestro este esta
esto estos estas ese esa eso cuando cuándo donde dónde como cómo porque no sí más muy también ya hay desde hasta"""

_ITALIAN = """il lo la i gli le un uno una di del dello della dei degli delle e ed o ma se che chi cui quale quali in
nel nella nei su sul sulla per con senza da dal dalla a al alla ai è sono era erano essere stato stata sei siamo siete
ha ho hai abbiamo hanno aveva avere io tu lui lei noi voi loro mi ti si ci vi mio mia miei tuo tua suo sua nostro
questo questa questi quello quella quando dove come perché cosa non no sì più molto anche già c'è"""

_PORTUGUESE = """o a os as um uma uns umas de do da dos das e ou mas se que quem qual quais em no na nos nas sobre por
pelo pela para com sem ao à é são era eram ser sido sou foi foram está estão estou estava estar tem tenho têm tinha
ter há eu tu ele ela nós eles elas você vocês me te lhe meu minha meus minhas teu tua seu sua nosso este esta isto
esse essa isso aquele aquela quando onde como porque não sim mais muito também já até"""

_DUTCH = """de het een en of maar als dan van naar te in op aan bij voor met uit is zijn was waren ben bent geweest
heeft hebben heb had hadden wordt worden werd zal zou zouden kan kunnen kon moet moeten mag dit dat deze die er hier
daar ik mij me mijn wij we ons onze jij je jou jouw u uw hij hem haar zij ze hun wat welke wie wanneer waar waarom hoe
niet geen nee ja zo zeer ook nog al wel om over onder door"""

_SWEDISH = """en ett den det de och eller men om så av till i på vid för med från som är var vara varit har hade ha
ska skulle kan kunde måste blir blev detta dessa här där jag mig min mitt mina vi oss vår du dig din ditt dina han
honom hans hon henne hennes dem deras vad vilken vilka vem när varför hur inte ingen nej ja mycket också bara under
över att sig sin"""

_DANISH = """en et den det de og eller men hvis så af til i på ved for med fra som er var være været har havde have
skal skulle kan kunne må bliver blev dette disse her der jeg mig min mit mine vi os vores du dig din dit dine han ham
hans hun hende hendes dem deres hvad hvilken hvilke hvem hvornår hvor hvorfor hvordan ikke ingen nej ja meget også kun
under over at sig sin"""

_NORWEGIAN = """en et ei den det de og eller men hvis så av til i på ved for med fra som er var være vært har hadde ha
skal skulle kan kunne må blir ble dette disse her der jeg meg min mitt mine vi oss vår du deg din ditt dine han ham
hans hun henne hennes dem deres hva hvilken hvilke hvem når hvor hvorfor hvordan ikke ingen nei ja mye også bare under
over å seg sin"""

_FINNISH = """ja tai mutta jos niin että kun kuin on ovat oli olivat olla ollut olen olet olemme ei en et eivät emme
ole minä minun minua minulla minulle sinä sinun sinua sinulla hän hänen hänet me meidän te teidän he heidän tämä tämän
tätä tässä nämä se sen sitä siitä siinä ne niiden mikä mitä mitkä mihin missä mistä kuka kenen milloin miksi miten
kyllä myös vain nyt sitten jo vielä hyvin"""

_RUSSIAN = """и в во не что он на я с со как а то все она так его но да ты к у же вы за бы по только ее её мне было
вот от меня еще ещё нет о об из ему когда уже вам ли если или ни быть был была были него до вас там она они тебя их
чем себя мой моя мои мое твой моё ваш наш это этот эта эти тот где кто какой какая какие почему зачем для мы нас нам
при мне тебе есть очень тоже"""

_ROMANIAN = """un o unei unui niște și sau dar dacă că ce care cine în pe la de din cu fără pentru prin este sunt era
erau fi fost sunt ești suntem a am ai are au avem aveți avea eu tu el ea noi voi ei ele mă te se îmi îți își mi meu
mea mei mele tău ta său sa lui lor nostru acest această acesta aceasta acel când unde cum nu da mai foarte și-a după
până decât al ale"""

_HUNGARIAN = """a az egy és vagy de ha hogy ami aki amely mely nem is van vannak volt voltak lesz lenne lett vagyok
vagy én te ő mi ti ők engem téged őt nekem neked neki nekünk ez ezt ezek azt azok itt ott mit mikor hol hová miért
hogyan milyen melyik ki kit csak már még meg el be fel le igen nagyon most mert akkor így úgy után előtt alatt
között"""

_TURKISH = """ve veya ama fakat eğer ile için gibi kadar bir bu şu o bunu şunu onu ben sen biz siz onlar beni seni
bana sana bize size ona benim senin onun bizim sizin onların ne neden niçin nasıl nerede nereye kim kimin hangi kaç mı
mi mu mü değil var yok çok daha en da de ki her hiç şey olarak olan oldu idi ise sonra önce hayır evet"""

_GREEK = """ο η το οι τα του της των τον την τους τις ένα μια ένας και ή αλλά αν ότι που πως να θα σε στο στη στην
στον στα στις στους από με για είναι ήταν είμαι είσαι έχει έχω έχεις είχε εγώ εσύ αυτός αυτή αυτό εμείς εσείς αυτοί
μου σου του μας σας τι ποιος ποια ποιο πότε πού γιατί δεν δε μην όχι ναι πολύ και όταν κι ως"""

_ARABIC = """في من إلى على عن مع هو هي هم هن أنا نحن أنت أنتم هذا هذه ذلك تلك الذي التي الذين ما ماذا متى أين كيف
لماذا هل لا لم لن ليس كان كانت يكون قد إن أن و أو ثم لكن إذا كل بعد قبل عند لي لك له لها نعم جدا أي"""

_POLISH = """i w we na z ze do od po za o u a ale lub czy jeśli że co który która które kto kiedy gdzie dlaczego jak
nie tak jest są był była było byli być jestem jesteś jesteśmy ma mam masz mają miał ja ty on ona ono my wy oni mnie mi
ciebie ci go jej jemu ją ich im mój moja moje twój twoja się ten ta to te tego tej tym już tylko bardzo też dla przy
przez pod"""

_CZECH = """a i v ve na z ze do od po za o u s se si ale nebo jestli že co který která které kdo kdy kde proč jak ne
ano je jsou byl byla bylo byli být jsem jsi jsme jste má mám máš mají měl já ty on ona ono my vy oni mě mi tebe ti ho
jeho její jí jim můj moje tvůj ten ta to ty toho tím už jen velmi také pro při přes pod"""

_CATALAN = """el la els les un una uns unes de del dels i o però si que què qui quin quina en sobre per amb sense al
als és són era eren ser estat soc ets som ha he has hem han havia haver jo tu ell ella nosaltres ells elles em et es
li ho meu meva teu teva seu seva aquest aquesta això quan on com perquè no sí més molt també ja hi dels pel"""

_INDONESIAN = """yang dan di ke dari untuk dengan pada adalah ini itu saya aku kamu anda dia kami kita mereka tidak
bukan akan sudah telah sedang bisa dapat harus ada atau tetapi tapi jika kalau karena apa siapa kapan mana dimana
mengapa kenapa bagaimana juga hanya lebih sangat seperti oleh sebagai dalam lagi saja belum jangan ya"""

_HINDI = """और या लेकिन अगर तो कि का की के को में से पर है हैं था थी थे हो होता हूँ हूं मैं हम तुम आप वह वे यह ये मुझे
मेरा मेरी मेरे तुम्हारा आपका उसका उसकी उनका क्या कौन कब कहाँ कहां क्यों कैसे नहीं हाँ भी ही बहुत ने जो इस उस एक साथ
लिए"""

# code: (Snowball algorithm, function words)
FUNCTION_WORDS: dict[str, tuple[str, str]] = {
    "en": ("english", _ENGLISH),
    "de": ("german", _GERMAN),
    "fr": ("french", _FRENCH),
    "es": ("spanish", _SPANISH),
    "it": ("italian", _ITALIAN),
    "pt": ("portuguese", _PORTUGUESE),
    "nl": ("dutch", _DUTCH),
    "sv": ("swedish", _SWEDISH),
    "da": ("danish", _DANISH),
    "no": ("norwegian", _NORWEGIAN),
    "fi": ("finnish", _FINNISH),
    "ru": ("russian", _RUSSIAN),
    "ro": ("romanian", _ROMANIAN),
    "hu": ("hungarian", _HUNGARIAN),
    "tr": ("turkish", _TURKISH),
    "el": ("greek", _GREEK),
    "ar": ("arabic", _ARABIC),
    "pl": ("polish", _POLISH),
    "cs": ("czech", _CZECH),
    "ca": ("catalan", _CATALAN),
    "id": ("indonesian", _INDONESIAN),
    "hi": ("hindi", _HINDI),
}
