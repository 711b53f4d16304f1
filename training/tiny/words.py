"""Common English words of three to five letters, to be written in pictures.

None of them occurs in the recipe's questions, so that keeping a word out of the pictures keeps it out of all text.
"""

_TEXT = """
able ace acid act add age aged aid aim air ale also ant ape apple apt arc arch arena ark arm army arrow art ash
atom aunt axe axis back bacon bad badge bag bake baker ball ban band bank barn bat bath bay beach beam bean bear
beat bed bee beef beg bell belt bend berry best bet bid big bin birch bird bit bite blade blaze bloom board boat
body bog bold bolt bomb bone book boot born boss bow bowl box boy brain brave bread brick bride brim brook broom
brush bud bug bulb bulk bun burn bus bush busy but buy cab cabin cafe cage cake calm camel camp can candy cane
canoe cap car card care cargo cart case cash cat cave cell chain chair chalk charm chef chess chief chin chip
city civic clay clerk cliff climb clip clock cloth cloud clown club coach coal coast coat cob cobra cod code cog
coin cold comb comet cook cool cope copy coral cord corn cost cot couch cow coy cozy crab crane cream creek crew
crib crop crown cry cub cube cup cure curve cut daisy dam dance dark dart dash data date dawn day deck deep deer
delta den desk dew dial diary dice dig dim dip dish dive diver dock dog doll dome door dot dove dozen draft
dream dress drill drum dry dub duck due duel dug dune dusk dust duty dye eagle ear earth easy eat ebb echo edge
eel egg elbow elf elk elm empty end epic era eve exam exit eye fable face fact fade fair faith fall fan far farm
fast fat feast fed fee fen fence fern ferry fever field fig film fin find fir fire fish fit fix flag flame flat
flea fleet flex flint flour flow flu flute fly foam focus foe fog fold folk food foot fork form fort forum fox
frog frost fruit fry fuel fun fund fur fuse gap gas gaze gear gem get giant gift girl give glad glass globe
glove glow glue goal goat gold golf gong good gown grab gram grape graph grass grid grip guard guide gulf gum
gun gust gut guy gym habit hail hair half hall hand hang hare harp hat hawk hay hazel heart heat hedge hen herb
hero hew hex hid hike hill hinge hint hip hit hive hog hole home honey hood hook hop hope horn horse hose host
hot hotel hour house hub hug huge hum humor hunt hut hyena ice icon icy idea igloo inch index ink inn ion iris
iron item ivory ivy jab jail jam jar jaw jay jazz jelly jet jewel jig job jog joke joker joy judge jug juice
jump jury karma kayak keen keg kelp key kick kid kin kind king kiss kit kite kiwi knee knife knot koala lab
label lace lad lake lamb lamp lane lap lark laser latch lava law lawn lay leaf leg lemon lens level lid lilac
lime line linen link lion lip lips list lit llama loaf lobby lock loft log logo loop lot lotus love low luck
lucky lunar lung mad magic mail main mall malt man mane mango map maple march mat maze meal medal melon melt
menu metal meter mild milk mill mind mint mist moat mob mode model mole money monk month moon mop moss moth
motor mouse movie mud mug mule music myth nail name nap neck nerve nest net news nib night ninja noble nod north
nose note nurse nut oak oar oasis oat oath ocean odd oil old olive one onion opera orb orbit ore otter oven over
owl own ozone pace pack pad page pail paint palm pan panda panel paper park party pasta pat patch path paw pay
pea peach peak pear pearl peel peg pen pet petal phone photo piano pie pier pig pilot pin pine pink pipe pit
pixel pizza plan plane plant plaza plug plum pod poem poet pole polo pond pony pool pop poppy port post pot
pouch prize pub pulse pump pup puppy quail quay queen quest quick quiet quilt quiz race radar radio raft rag
rail rain rake ram ramp ran ranch rap rat raven raw ray razor realm reef relay rhyme rib rice rid rider rig rim
ring rink rip river road rob robe robin robot rock rod rodeo roof room root rope rose rot royal rub ruby rug
ruler rum run rust rye sad safe saga sail salad salt sand sap sauce saw scale scarf scout sea seal seat seed set
sew shark shed sheep shelf shell ship shirt shoe shop shy silk sink sip sir siren sit site six size skate ski
skin skip skirt sky slab sled slope sly smile smoke snack snake snow soap sob sock sod soda sofa soil solar son
song soup south soy spa spark spice spin spoon sport spot spy squid stage stamp stand steam stem step stone
storm stove sub sugar suit sum sun sunny surf swamp swan sweet swing sword table tag tail tan tango tap tape tar
tax taxi tea team tempo ten tent thorn tide tie tiger tile time tin tip toad toast toe tomb ton tool topaz torch
tour tower town toy track train tray tree trip trout truck tub tube tug tulip tuna tusk twin two uncle unit
unity urn van vapor vase vat vault veil vein venom vest vet vex via video view villa vine viper visa visit vivid
vocal voice vote vow wag wage wagon walk wall waltz war warm wasp water wave wax web weed well wet whale wheat
wheel whip wick wig wild win wind wine wing wire wit witch wolf wood wool world worm wrist yacht yak yam yard
yarn yes yet yoga youth zebra zero zinc zip zone zoo zoom
"""
WORDS = tuple(_TEXT.split())
