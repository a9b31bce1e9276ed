"""Words for composed scenes: English nouns in number, and colours and places in sixteen languages.

English captions are sentences with articles, numbers, sizes and relations. The other languages get what needs no
knowledge of a noun's gender, case or plural: the name as CLDR gives it, the colour in a form that does not agree with
the noun ("poisson de couleur rouge", "рыба красного цвета"), and places as a list ("left X, right Y").
"""

from __future__ import annotations

from dataclasses import dataclass

NUMBERS = ("zero", "one", "two", "three", "four", "five")

LANGUAGES = ("en", "te", "hi", "ta", "bn", "mr", "ur", "fr", "de", "es", "pt", "ru", "zh", "ja", "ar", "sw")

VOWEL_SOUNDS = ("a", "e", "i", "o", "u")
NO_VOWEL_SOUND = ("uni", "use", "u-", "eu", "one", "ukulele")  # "a unicorn"
SILENT = ("hour", "honest", "x-ray", "mp3")  # "an hourglass"


def plural(noun: str) -> str:
    """The regular English plural of a noun or of the last word of several: 'cherry' -> 'cherries'."""
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in VOWEL_SOUNDS:
        return noun[:-1] + "ies"
    return noun + "s"


def with_article(phrase: str) -> str:
    """'orange fish' -> 'an orange fish'."""
    word = phrase.lower()
    vowel = word.startswith(SILENT) or (word.startswith(VOWEL_SOUNDS) and not word.startswith(NO_VOWEL_SOUND))
    return f"{'an' if vowel else 'a'} {phrase}"


@dataclass(frozen=True)
class Tongue:
    """How a language says colours and places.

    coloured: template with {noun} and {colour}. colours: name -> the form that the template takes.
    backgrounds: name -> how "on a … background" is appended to a caption.
    left_right, above_below: templates with {a} (left, above) and {b} (right, below).
    comma: what joins the parts of a list.
    """

    coloured: str
    colours: dict[str, str]
    left_right: str
    above_below: str
    ground: str
    grounds: dict[str, str]
    comma: str = ", "
    both: str = "{a}, {b}"
    counted: tuple[str, ...] = ()


def _colours(words: str) -> dict[str, str]:
    """Forms in the order of scene_colours.COLOURS, separated by `|`."""
    names = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "gray")
    return dict(zip(names, (word.strip() for word in words.split("|")), strict=True))


TONGUES = {
    "te": Tongue(
        "{colour} రంగు {noun}",
        _colours("ఎరుపు|నారింజ|పసుపు|ఆకుపచ్చ|నీలం|ఊదా|గులాబీ|గోధుమ|నలుపు|తెలుపు|బూడిద"),
        "ఎడమ వైపు {a}, కుడి వైపు {b}",
        "పైన {a}, కింద {b}",
        ", {colour} రంగు నేపథ్యం",
        _colours("ఎరుపు|నారింజ|పసుపు|ఆకుపచ్చ|నీలం|ఊదా|గులాబీ|గోధుమ|నలుపు|తెలుపు|బూడిద"),
    ),
    "hi": Tongue(
        "{colour} रंग में {noun}",
        _colours("लाल|नारंगी|पीले|हरे|नीले|बैंगनी|गुलाबी|भूरे|काले|सफ़ेद|स्लेटी"),
        "बाईं ओर {a}, दाईं ओर {b}",
        "ऊपर {a}, नीचे {b}",
        ", {colour} पृष्ठभूमि",
        _colours("लाल|नारंगी|पीली|हरी|नीली|बैंगनी|गुलाबी|भूरी|काली|सफ़ेद|स्लेटी"),
        both="{a} और {b}",
    ),
    "ta": Tongue(
        "{colour} நிற {noun}",
        _colours("சிவப்பு|ஆரஞ்சு|மஞ்சள்|பச்சை|நீல|ஊதா|இளஞ்சிவப்பு|பழுப்பு|கருப்பு|வெள்ளை|சாம்பல்"),
        "இடது பக்கம் {a}, வலது பக்கம் {b}",
        "மேலே {a}, கீழே {b}",
        ", {colour} நிறப் பின்னணி",
        _colours("சிவப்பு|ஆரஞ்சு|மஞ்சள்|பச்சை|நீல|ஊதா|இளஞ்சிவப்பு|பழுப்பு|கருப்பு|வெள்ளை|சாம்பல்"),
    ),
    "bn": Tongue(
        "{colour} রঙের {noun}",
        _colours("লাল|কমলা|হলুদ|সবুজ|নীল|বেগুনি|গোলাপি|বাদামি|কালো|সাদা|ধূসর"),
        "বাঁ দিকে {a}, ডান দিকে {b}",
        "উপরে {a}, নিচে {b}",
        ", {colour} পটভূমি",
        _colours("লাল|কমলা|হলুদ|সবুজ|নীল|বেগুনি|গোলাপি|বাদামি|কালো|সাদা|ধূসর"),
        both="{a} এবং {b}",
        counted=("দুটি {noun}", "তিনটি {noun}", "চারটি {noun}", "পাঁচটি {noun}"),  # the noun stays singular
    ),
    "mr": Tongue(
        "{colour} रंगात {noun}",
        _colours("लाल|नारंगी|पिवळ्या|हिरव्या|निळ्या|जांभळ्या|गुलाबी|तपकिरी|काळ्या|पांढऱ्या|राखाडी"),
        "डावीकडे {a}, उजवीकडे {b}",
        "वर {a}, खाली {b}",
        ", {colour} पार्श्वभूमी",
        _colours("लाल|नारंगी|पिवळी|हिरवी|निळी|जांभळी|गुलाबी|तपकिरी|काळी|पांढरी|राखाडी"),
        both="{a} आणि {b}",
    ),
    "ur": Tongue(
        "{colour} رنگ میں {noun}",
        _colours("لال|نارنجی|پیلے|سبز|نیلے|جامنی|گلابی|بھورے|کالے|سفید|سرمئی"),
        "بائیں طرف {a}، دائیں طرف {b}",
        "اوپر {a}، نیچے {b}",
        "، {colour} پس منظر",
        _colours("لال|نارنجی|پیلا|سبز|نیلا|جامنی|گلابی|بھورا|کالا|سفید|سرمئی"),
        comma="، ",
        both="{a} اور {b}",
    ),
    "fr": Tongue(
        "{noun} de couleur {colour}",
        _colours("rouge|orange|jaune|verte|bleue|violette|rose|marron|noire|blanche|grise"),
        "à gauche : {a}, à droite : {b}",
        "en haut : {a}, en bas : {b}",
        ", fond {colour}",
        _colours("rouge|orange|jaune|vert|bleu|violet|rose|marron|noir|blanc|gris"),
        both="{a} et {b}",
    ),
    "de": Tongue(
        "{noun} in {colour}",
        _colours("Rot|Orange|Gelb|Grün|Blau|Lila|Rosa|Braun|Schwarz|Weiß|Grau"),
        "links {a}, rechts {b}",
        "oben {a}, unten {b}",
        ", {colour} Hintergrund",
        _colours("roter|orangefarbener|gelber|grüner|blauer|lilafarbener|rosafarbener|brauner|schwarzer|weißer|grauer"),
        both="{a} und {b}",
    ),
    "es": Tongue(
        "{noun} de color {colour}",
        _colours("rojo|naranja|amarillo|verde|azul|morado|rosa|marrón|negro|blanco|gris"),
        "a la izquierda: {a}, a la derecha: {b}",
        "arriba: {a}, abajo: {b}",
        ", fondo {colour}",
        _colours("rojo|naranja|amarillo|verde|azul|morado|rosa|marrón|negro|blanco|gris"),
    ),
    "pt": Tongue(
        "{noun} de cor {colour}",
        _colours("vermelha|laranja|amarela|verde|azul|roxa|rosa|marrom|preta|branca|cinza"),
        "à esquerda: {a}, à direita: {b}",
        "em cima: {a}, embaixo: {b}",
        ", fundo {colour}",
        _colours("vermelho|laranja|amarelo|verde|azul|roxo|rosa|marrom|preto|branco|cinza"),
        both="{a} e {b}",
    ),
    "ru": Tongue(
        "{noun} {colour} цвета",
        _colours("красного|оранжевого|жёлтого|зелёного|синего|фиолетового|розового|коричневого|чёрного|белого|серого"),
        "слева {a}, справа {b}",
        "сверху {a}, снизу {b}",
        ", {colour} фон",
        _colours("красный|оранжевый|жёлтый|зелёный|синий|фиолетовый|розовый|коричневый|чёрный|белый|серый"),
        both="{a} и {b}",
    ),
    "zh": Tongue(
        "{colour}的{noun}",
        _colours("红色|橙色|黄色|绿色|蓝色|紫色|粉色|棕色|黑色|白色|灰色"),
        "左边是{a}，右边是{b}",
        "上面是{a}，下面是{b}",
        "，{colour}背景",
        _colours("红色|橙色|黄色|绿色|蓝色|紫色|粉色|棕色|黑色|白色|灰色"),
        comma="、",
        both="{a}和{b}",
    ),
    "ja": Tongue(
        "{colour}{noun}",
        _colours(
            "赤い|オレンジ色の|黄色い|緑色の|青い|紫色の|ピンク色の|茶色い|黒い|白い|灰色の",
        ),
        "左に{a}、右に{b}",
        "上に{a}、下に{b}",
        "、{colour}背景",
        _colours("赤い|オレンジ色の|黄色い|緑色の|青い|紫色の|ピンク色の|茶色い|黒い|白い|灰色の"),
        comma="、",
        both="{a}と{b}",
    ),
    "ar": Tongue(
        "{noun} باللون {colour}",
        _colours("الأحمر|البرتقالي|الأصفر|الأخضر|الأزرق|البنفسجي|الوردي|البني|الأسود|الأبيض|الرمادي"),
        "على اليسار {a}، وعلى اليمين {b}",
        "في الأعلى {a}، وفي الأسفل {b}",
        "، خلفية {colour}",
        _colours("حمراء|برتقالية|صفراء|خضراء|زرقاء|بنفسجية|وردية|بنية|سوداء|بيضاء|رمادية"),
        comma="، ",
        both="{a} و{b}",
    ),
    "sw": Tongue(
        "{noun} (rangi {colour})",
        _colours(
            "nyekundu|ya machungwa|ya njano|ya kijani|ya bluu|ya zambarau|ya waridi|ya kahawia|nyeusi|nyeupe|ya kijivu"
        ),
        "kushoto {a}, kulia {b}",
        "juu {a}, chini {b}",
        ", mandharinyuma ya rangi {colour}",
        _colours(
            "nyekundu|ya machungwa|ya njano|ya kijani|ya bluu|ya zambarau|ya waridi|ya kahawia|nyeusi|nyeupe|ya kijivu"
        ),
        both="{a} na {b}",
    ),
}
"""Every language of `LANGUAGES` but English."""

COLOUR_STEMS = {
    "en": "red orange yellow green blue purple violet pink brown black white gray grey",
    "te": "ఎరుపు ఎర్ర నారింజ పసుపు ఆకుపచ్చ పచ్చ నీలం నీలి ఊదా గులాబీ గోధుమ నలుపు నల్ల తెలుపు తెల్ల బూడిద",
    "hi": "लाल नारंगी पील हर हरा हरे नील बैंगनी गुलाबी भूर काल सफ़ेद सफेद स्लेटी",
    "ta": "சிவப்பு ஆரஞ்சு மஞ்சள் பச்சை நீல ஊதா இளஞ்சிவப்பு பழுப்பு கருப்பு வெள்ளை சாம்பல்",
    "bn": "লাল কমলা হলুদ সবুজ নীল বেগুনি বেগুনী গোলাপি গোলাপী বাদামি কালো সাদা ধূসর",
    "mr": "लाल नारंगी पिवळ हिरव निळ जांभळ गुलाबी तपकिरी काळ पांढ राखाडी",
    "ur": "لال سرخ نارنجی پیل سبز ہرا نیل جامنی گلابی بھور کال سیاہ سفید سرمئی",
    "fr": "rouge orange jaune vert bleu violet rose marron brun noir blanc gris",
    "de": "rot orange gelb grün blau lila violett rosa braun schwarz weiß grau",
    "es": "roj naranja amarill verde azul morad rosa marrón negr blanc gris",
    "pt": "vermelh laranja amarel verde azul rox rosa marrom castanh pret branc cinz",
    "ru": "красн оранжев жёлт желт зелён зелен син фиолетов розов коричнев чёрн черн бел сер",
    "zh": "红 橙色 黄 绿 蓝 紫 粉色 棕 黑 白 灰",
    "ja": "赤 オレンジ 黄 緑 青 紫 ピンク 茶色 黒 白 灰色",
    "ar": "أحمر حمراء برتقالي أصفر صفراء أخضر خضراء أزرق زرقاء بنفسجي وردي بني أسود سوداء أبيض بيضاء رمادي",
    "sw": "nyekundu machungwa njano manjano kijani bluu samawati zambarau waridi kahawia nyeusi nyeupe kijivu",
}
"""How words for colours begin, in every language."""


def names_a_colour(text: str, language: str) -> bool:
    """Whether a name says a colour itself ("yaprak" no, "manzana roja" yes), so that it fits no recoloured drawing."""
    stems = COLOUR_STEMS[language].split()
    if language in ("zh", "ja"):
        return any(stem in text for stem in stems)
    words = text.lower().replace("-", " ").replace("’", " ").split()
    return any(word.removeprefix("ال").startswith(stem) for word in words for stem in stems)
