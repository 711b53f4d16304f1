"""Common English words of three letters, to be written in pictures.

None of them occurs in the recipe's questions, so keeping a word out of the pictures keeps it out of all text.
"""

_TEXT = """
ace act add age aid aim air ale ant ape apt arc ark arm art ash axe bad bag ban bat bay bed bee beg bet bid
big bin bit bog bow box boy bud bug bun bus but buy cab can cap car cat cob cod cog cot cow coy cry cub cup
cut dam day den dew dig dim dip dog dot dry dub due dug dye ear eat ebb eel egg elf elk elm end era eve eye
fan far fat fed fee fen fig fin fir fit fix flu fly foe fog fox fry fun fur gap gas gem get gum gun gut guy
gym hat hay hen hew hex hid hip hit hog hop hot hub hug hum hut ice icy ink inn ion ivy jab jam jar jaw jay
jet jig job jog joy jug keg key kid kin kit lab lad lap law lay leg lid lip lit log lot low mad man map mat
mob mop mud mug nap net nib nod nut oak oar oat odd oil old one orb ore owl own pad pan pat paw pay pea peg
pen pet pie pig pin pit pod pop pot pub pup rag ram ran rap rat raw ray rib rid rig rim rip rob rod rot rub
rug rum run rye sad sap saw sea set sew shy sip sir sit six ski sky sly sob sod son soy spa spy sub sum sun
tag tan tap tar tax tea ten tie tin tip toe ton toy tub tug two urn van vat vet vex via vow wag war wax web
wet wig win wit yak yam yes yet zip zoo
"""
WORDS = tuple(_TEXT.upper().split())
