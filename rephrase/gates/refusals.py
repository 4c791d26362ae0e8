"""What a model says when it does not do what it was asked: apologies and words about itself, by language.

Data for the gate `refusal`. A phrase names a refusal (`I cannot help`), not only its first words, because people also
write "I can't believe it". What the source says as well is no refusal. To add a language, add one row.

Patterns are in lower case, as the text is made first.

How it is used:  n = refusals(output_text, source_text)
"""

import re

SEARCHED_CHARACTERS = 200
"""Refusals come first."""

_DO = (
    r"help|assist|provide|fulfill?|comply|re-?write|re-?phrase|paraphrase|summari[sz]e|generate|create|answer|process"
    r"|do (?:that|this|so)|complete|continue|access|browse|support|engage|discuss|offer|give you|accommodate|respond"
    r"|produce"
)
_SELF = (
    r"(?:ai|artificial intelligence|(?:large |ai )?language model|chatbot|(?:ai |virtual )?assistant)"
    r"(?!(?:\s+\w+)?\s+(?:professor|manager|director|coach|editor|teacher|secretary|attorney))\b"
)
_PHRASES = {
    "en": rf"\bi(?:'m| am) (?:(?:so |very |truly )?sorry|unable|not able|not allowed|not permitted|afraid i)\b"
    rf"|\bi apologi[sz]e\b|\bmy apologies\b|\bi (?:must|have to) (?:decline|refuse)\b"
    rf"|\bi (?:can't|cannot|can not|could not|couldn't|won't|will not) (?:\w+ )?(?:{_DO})\b"
    rf"|\bas an? {_SELF}|\bi(?:'m| am) (?:just |only )?an? {_SELF}"
    r"|\bi (?:don't|do not) have (?:enough|any|access|the ability|personal)\b"
    r"|\bno (?:passage|text|document|input) (?:was |is |to |you )?(?:provided|given|rewrite|rephrase)"
    r"|\bplease provide (?:me with )?(?:the|a) (?:passage|text|document|input)",
    "de": r"\b(?:es tut mir (?:sehr )?leid|tut mir leid|entschuldigung|ich entschuldige mich|ich bedaure)\b"
    r"|\b(?:ich kann|kann ich) (?:\w+ ){0,4}(?:nicht|keine?n?) (?:\w+ ){0,3}(?:helfen|umschreiben|erstellen|beantworten"
    r"|bereitstellen|erfüllen|verarbeiten)\b|\bals (?:ki|künstliche intelligenz|(?:ki-)?sprachmodell"
    r"|(?:ki-)?assistent)\b|\bich bin (?:nur )?ein(?:e)? (?:ki|sprachmodell|assistent|künstliche)",
    "fr": r"\bje (?:suis|m') ?(?:désolée?|excuse)\b|\bdésolée?, |\bje ne (?:peux|suis) pas (?:\w+ ){0,3}"
    r"(?:aider|fournir|réécrire|répondre|en mesure)|\ben tant qu(?:e |')(?:ia|intelligence artificielle|modèle"
    r"|assistant)|\bje suis une? (?:ia|assistant|modèle de langage)",
    "es": r"\blo siento\b|\blamento (?:no|que)\b|\bno puedo (?:\w+ ){0,3}(?:ayudar|proporcionar|reescribir|responder"
    r"|cumplir)|\bcomo (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje|asistente)\b"
    r"|\bsoy una? (?:ia|asistente|modelo de lenguaje)",
    "it": r"\bmi (?:dispiace|scuso|spiace)\b|\bnon posso (?:\w+ ){0,3}(?:aiutar|fornire|riscrivere|rispondere)"
    r"|\bcome (?:una? )?(?:ia|intelligenza artificiale|modello linguistico|assistente)\b"
    r"|\bsono un(?:a|')? ?(?:ia|assistente|modello linguistico|intelligenza artificiale)",
    "pt": r"\b(?:sinto muito|lamento|desculpe)\b|\bnão posso (?:\w+ ){0,3}(?:ajudar|fornecer|reescrever|responder)"
    r"|\bcomo (?:uma? )?(?:ia|inteligência artificial|modelo de linguagem|assistente)\b"
    r"|\bsou uma? (?:ia|assistente|modelo de linguagem)",
    "nl": r"\bhet spijt me\b|\bmijn excuses\b|\bik kan (?:\w+ ){0,4}niet (?:\w+ ){0,2}(?:helpen|herschrijven|geven)"
    r"|\bals (?:ai|taalmodel|assistent)\b|\bik ben een (?:ai|taalmodel|assistent)",
    "pl": r"\bprzepraszam\b|\bprzykro mi\b|\bnie mogę (?:\w+ ){0,3}(?:pomóc|przepisać|odpowiedzieć|spełnić)"
    r"|\bjako (?:ai|sztuczna inteligencja|model językowy|asystent)",
    "ru": r"\b(?:извините|простите|к сожалению, я|мне жаль)\b|\bя не (?:могу|в состоянии) (?:\w+ ){0,3}"
    r"(?:помочь|переписать|ответить|выполнить)|\bкак (?:ии|искусственный интеллект|языковая модель)"
    r"|\bя (?:ии|языковая модель)",
    "zh": r"抱歉|对不起|很遗憾，?我|我(?:无法|不能|没办法)(?:帮助|提供|改写|回答|满足|完成)"
    r"|作为(?:一个)?(?:ai|人工智能|语言模型|助手)|我是(?:一个)?(?:ai|人工智能|语言模型)",
    "ja": r"申し訳(?:ありません|ございません)|お手伝いできません|お答えできません"
    r"|ai(?:として|アシスタント)|言語モデルとして",
}
_REFUSAL = [re.compile(pattern) for pattern in _PHRASES.values()]


def refusals(text: str, source: str) -> int:
    """Apologies and self-references in the first 200 characters of an answer that its source does not have; >= 0."""
    begin = text[:SEARCHED_CHARACTERS].replace("\u2019", "'").lower()
    found = [match[0] for pattern in _REFUSAL for match in pattern.finditer(begin)]
    if not found:
        return 0
    said = source.replace("\u2019", "'").lower()
    return sum(phrase not in said for phrase in found)
