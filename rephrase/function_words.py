"""The commonest words of some languages, which carry no topic: two texts that share them share nothing.

How it is used:  content = vocabulary - function_words("de")
"""

_LISTS = {
    "en": """a about after all also an and any are as at be because been but by can could did do does for from had has
        have he her his how i if in into is it its may more most no not of on one only or other our out over she should
        so some such than that the their them then there these they this those to too two up was we were what when where
        which while who will with would you your""",
    "de": """aber als am an auch auf aus bei bis da dann das dass dem den der des die dies diese dieser doch durch ein
        eine einem einen einer eines er es für hat hatte haben ich ihr ihre im in ist kann man mehr mit nach nicht noch
        nur oder sein sich sie sind so über um und uns unter vom von vor war waren was wenn werden wie wir wird wurde zu
        zum zur""",
    "fr": """a ainsi au aussi aux avec bien car ce cela ces cet cette comme d dans de des deux du elle elles en est et
        été être eu fait il ils je l la le les leur leurs lui mais même n ne nous on ont ou où par pas plus pour qu que
        qui s sa sans se ses si son sont sur tout très un une vous y""",
    "es": """a al algo como con cuando de del desde donde el ella ellos en entre era es esta está este esto fue ha han
        hasta hay la las le les lo los más me mi muy no nos o para pero por porque que qué se ser si sin sobre son su
        sus también tiene un una uno y ya yo""",
    "it": """a ad al alla alle anche c che chi ci come con così da dal dalla dei del della delle di e è ed era gli ha
        hanno i il in io l la le lo ma mi nel nella non o per perché più quando quella quello questa questo se si sia
        sono su sua sue sul suo tra un una uno""",
    "pt": """a ao aos as até com como da das de dele do dos e é ela ele em entre era essa esse esta está este eu foi há
        isso já mais mas me mesmo muito na não nas nem no nos o os ou para pela pelo por porque qual quando que quem se
        sem ser seu seus só sua suas também tem um uma você""",
    "nl": """aan al als bij dan dat de deze die dit door een en er had hebben heeft het hij hoe ik in is je kan maar met
        meer men mijn naar niet nog nu of om onder ook op over te tot uit van veel voor was wat we werd wie wij wordt ze
        zei zich zij zijn zo zou""",
    "pl": """a aby ale bardzo bez był była było być co czy dla do gdy go i ich ja jak jako je jego jej jest jeszcze już
        który która które lub ma można na nie nich niż o od oraz po pod przez przy się są ta tak także tego tej ten to
        tylko tym u w we więc z za ze że""",
    "ru": """а без был была были было быть в во вы где для до его ее если еще же за и из или им их к как когда который
        которые мы на не него нет но о об он она они от по под при с со так также только то у уже что чтобы это этого
        этот я""",
}
_BY_LANGUAGE = {lang: frozenset(text.split()) for lang, text in _LISTS.items()}

FUNCTION_WORDS = _BY_LANGUAGE["en"]
"""Those of English."""


def function_words(lang: str | None) -> frozenset[str]:
    """The function words of a language by its ISO 639-1 code: English ones for null, none for one that has no list."""
    return FUNCTION_WORDS if lang is None else _BY_LANGUAGE.get(lang, frozenset())
