"""Questions with their answers: what a decoder is rounded over and judged on where the user gives no texts.

Plain English of many subjects, written for this, so that no model was trained on it.
"""

JUDGED_ON = (
    (
        "What is the capital of France, and what is it known for?",
        "The capital of France is Paris. It lies on the river Seine and is known for the Eiffel Tower, the Louvre, "
        "the cathedral of Notre-Dame, and for its cafes and bakeries. About two million people live in the city "
        "itself, and more than ten million in the towns around it.",
    ),
    (
        "Describe a kitchen in a few sentences.",
        "The kitchen is small and bright. On the left there is a white refrigerator beside a wooden counter, and "
        "above the counter hang three cupboards. A kettle stands on the stove, steam rising from it, and through the "
        "window over the sink you can see a garden with an apple tree. A cat is asleep on one of the two chairs.",
    ),
    (
        "Why is the sky blue?",
        "Sunlight is made of all the colors of the rainbow. When it enters the atmosphere, the molecules of the air "
        "scatter the short wavelengths, which are blue and violet, much more strongly than the long ones, which are "
        "red. So blue light reaches our eyes from every direction of the sky. At sunset the light has to travel "
        "through more air, most of the blue has been scattered away, and what is left looks orange or red.",
    ),
    (
        "How do I make a cup of tea?",
        "First, boil fresh water in a kettle. Put a tea bag or a teaspoon of loose leaves into a cup. Pour the hot "
        "water over the tea and let it stand for three to five minutes. Then take the tea bag out. Add milk, sugar, "
        "honey or a slice of lemon, as you like. Be careful, because the cup will be hot.",
    ),
    (
        "Write a function in Python that returns the largest number of a list.",
        "Here is a function that returns the largest number of a list:\n\n```python\ndef largest(numbers):\n    if "
        'not numbers:\n        raise ValueError("the list is empty")\n    result = numbers[0]\n    for number in '
        "numbers[1:]:\n        if number > result:\n            result = number\n    return result\n```\n\nIt starts "
        "with the first number and replaces it whenever a larger one comes. You can also use the built-in function "
        "`max`.",
    ),
    (
        "Who wrote Romeo and Juliet, and what happens in it?",
        "Romeo and Juliet was written by William Shakespeare near the end of the sixteenth century. It tells the "
        "story of two young people in Verona whose families are enemies. They fall in love at a feast and marry in "
        "secret. After a series of fights and misunderstandings both of them die, and their deaths bring the two "
        "families together at last.",
    ),
    (
        "A train travels 120 kilometers in two hours. How fast is it, and how far will it go in five hours?",
        "To find the speed, divide the distance by the time: 120 kilometers divided by 2 hours is 60 kilometers per "
        "hour. In five hours, the train will travel 60 times 5, which is 300 kilometers.",
    ),
    (
        "What should I think of before I get a dog?",
        "Dogs need time, space and money. You should be able to walk with the dog at least twice a day, and someone "
        "should be at home for most of it. Think about who will look after the dog when you travel. Food, visits to "
        "the veterinarian and insurance cost several hundred dollars a year. Finally, choose a breed that fits the "
        "way you live: a border collie needs far more exercise than a pug, and a puppy needs more patience than an "
        "older dog.",
    ),
)
"""``(question, answer)``; a decoder is compared with the given model on these."""

OPENINGS = (
    (
        "The old man had lived at the edge of the village for as long as anyone could remember. Every morning, "
        "before the sun came up, he walked down to the harbor with a basket under his arm, and every evening he came "
        "back with it full of fish. He never spoke to anybody on the way. One winter, when the storms were so heavy "
        "that no boat could leave the bay, a girl knocked at his door and asked him why he still went out each day. "
        "He looked at her for a while, put another log on the fire, and began to tell her about the lighthouse."
    ),
    (
        "Plants make their food from light, water and carbon dioxide. The light is caught by chlorophyll, the green "
        "pigment in their leaves, and its energy is used to split water into hydrogen and oxygen. The oxygen leaves "
        "the plant through small openings on the underside of the leaf, while the hydrogen is combined with carbon "
        "dioxide to form sugar. Almost all life on Earth depends on this process, either directly or because it "
        "feeds on something that does. In autumn, when the days get shorter, many trees stop making chlorophyll, and "
        "the yellow and red pigments that were hidden before become visible."
    ),
)
"""Paragraphs without a question."""

ROUNDED_OVER = (
    (
        "How does a bicycle stay upright?",
        "A moving bicycle stays upright because the rider and the frame keep steering it under its own weight. "
        "When it leans to the left, the front wheel turns to the left as well, and the bicycle moves back under "
        "the rider. The faster it goes, the less one has to steer. When it stands still, there is nothing to bring "
        "it back, so most people put a foot on the ground.",
    ),
    (
        "Describe a photograph of a mountain lake in the morning.",
        "The photograph shows a lake between steep, dark mountains. The water is so still that the peaks, which "
        "are covered with snow, are mirrored in it. A thin layer of mist lies over the far shore. In the "
        "foreground there are gray stones and yellow grass, and on the right a red canoe has been pulled onto the "
        "beach. The sky is pale blue with two pink clouds.",
    ),
    (
        "What is the difference between a frog and a toad?",
        "Frogs have smooth, moist skin and long legs for jumping, and they live close to water. Toads have dry, "
        "bumpy skin and shorter legs, and they can live farther away from ponds. Frogs lay their eggs in clusters, "
        "while toads lay them in long chains. Both are amphibians, and both begin their lives as tadpoles.",
    ),
    (
        "Give me a recipe for pancakes.",
        "Here is a simple recipe for about ten pancakes:\n\n1. Mix 200 grams of flour, two teaspoons of baking "
        "powder, a pinch of salt and one tablespoon of sugar.\n2. Whisk two eggs with 300 milliliters of milk, and "
        "stir them into the flour until the batter is smooth.\n3. Melt a little butter in a pan over medium heat.\n"
        "4. Pour in a small ladle of batter. When bubbles appear on the surface, turn the pancake and bake the "
        "other side for one minute.\n\nServe them warm with maple syrup, berries or yogurt.",
    ),
    (
        "Why do earthquakes happen?",
        "The outer shell of the Earth is broken into large plates that move a few centimeters each year. Where two "
        "plates meet, they catch on each other and tension builds up in the rock. When the rock finally breaks or "
        "slips, the energy is set free as waves that shake the ground. Most earthquakes therefore happen along the "
        "edges of plates, for example in Japan, Chile, Turkey and California.",
    ),
    (
        "Write a Python program that counts the words of a file.",
        "You can count the words of a file like this:\n\n```python\nimport sys\n\n\ndef count_words(path):\n    "
        'with open(path, encoding="utf-8") as file:\n        return sum(len(line.split()) for line in file)\n\n\n'
        'if __name__ == "__main__":\n    print(count_words(sys.argv[1]))\n```\n\nSave it as `count.py` and run '
        "it with `python count.py notes.txt`. Words are whatever is separated by spaces or line breaks.",
    ),
    (
        "Who was Marie Curie?",
        "Marie Curie was a physicist and chemist. She was born in Warsaw in 1867 and moved to Paris to study, "
        "because women were not admitted to the university at home. Together with her husband Pierre she "
        "discovered the elements polonium and radium. She received the Nobel Prize in Physics in 1903 and the "
        "Nobel Prize in Chemistry in 1911, and she was the first person to be honored in two different sciences.",
    ),
    (
        "What can be seen in the picture?",
        "A man in a blue jacket is standing at a bus stop and looking at his phone. Next to him, a young woman "
        "with a green umbrella is holding the hand of a little boy who wears yellow boots. It is raining, and the "
        "lights of the cars are reflected by the wet street. Behind them there is a bakery with a striped awning, "
        'and above its door you can read the word "OPEN".',
    ),
    (
        "List five animals and the sounds that they make.",
        "- A dog barks.\n- A cat meows and purrs.\n- A cow moos.\n- A lion roars.\n- An owl hoots.\n\nMany birds "
        "also sing, and some of them, like parrots, can imitate what people say.",
    ),
    (
        "What is 17 times 23? Explain the steps.",
        "Split 23 into 20 and 3. First, 17 times 20 is 340. Then, 17 times 3 is 51. Add the two results: 340 + 51 "
        "= 391. So 17 times 23 is 391.",
    ),
    (
        "How do I say good morning in other languages?",
        'In Spanish you say "buenos días", in French "bonjour", in German "guten Morgen", in Italian '
        '"buongiorno", in Portuguese "bom dia", in Chinese "早上好", and in Japanese "おはようございます".',
    ),
    (
        "Tell me a short story about a lighthouse.",
        "Anna was eight years old when her father became the keeper of the lighthouse. Every evening she climbed "
        "the hundred and twelve steps with him, and together they lit the lamp. One night in November he was ill, "
        "and a storm was coming. So she went alone. The wind pulled at the door, the stairs were dark, and twice "
        "her candle went out. But when she reached the top, she saw the lights of three fishing boats, far out "
        "between the waves, and she knew that they were waiting for her.",
    ),
    (
        "What is inflation?",
        "Inflation means that prices rise in general, so that the same amount of money buys less than before. If "
        "the rate is three percent, a basket of goods that cost 100 dollars last year costs about 103 dollars "
        "today. Central banks try to keep inflation low and stable by changing interest rates: when borrowing "
        "becomes more expensive, people and companies spend less, and prices rise more slowly.",
    ),
    (
        "Write a polite email to cancel an appointment.",
        "Subject: Appointment on Thursday\n\nDear Dr. Miller,\n\nI am sorry to tell you that I cannot come to my "
        "appointment on Thursday, May 14, at 10 a.m., because I have to travel for work. Could we find another "
        "date in the following week? I am free on Tuesday and Wednesday afternoon.\n\nThank you very much for your "
        "understanding.\n\nKind regards,\nThomas Brown",
    ),
    (
        "Is the cup on the left larger than the one on the right?",
        "Yes. The cup on the left is larger: it is about twice as tall as the one on the right, and it has a blue "
        "handle. The smaller cup is white and stands on a saucer next to a silver spoon.",
    ),
    (
        "What are the parts of a plant?",
        "Most plants have roots, a stem, leaves and flowers. The roots hold the plant in the soil and take up "
        "water and minerals. The stem carries the leaves and moves water and sugar up and down. The leaves make "
        "food from sunlight. The flowers make seeds, and in many plants the seeds are protected by a fruit, such "
        "as an apple, a tomato or a nut.",
    ),
    (
        "What should I see in London in one day?",
        "Start at Westminster, where you can see Big Ben, the Houses of Parliament and Westminster Abbey. Then "
        "walk through St. James's Park to Buckingham Palace. In the afternoon, visit the British Museum, which is "
        "free, or take a boat down the Thames to the Tower of London. In the evening you could see a musical in "
        "the West End, or enjoy the view over the city from the South Bank.",
    ),
    (
        "Explain to a child why we have day and night.",
        "Imagine that you hold a ball in front of a lamp. One half of the ball is bright, and the other half is "
        "dark. Our Earth is like that ball, and the Sun is the lamp. The Earth turns around once every day. When "
        "our side turns toward the Sun, we have day. When it turns away, it gets dark, and we have night. Then it "
        "is morning for the children on the other side of the world.",
    ),
)
"""``(question, answer)``; never of the questions that are judged on."""

GREEDY_QUESTIONS = ("What is the capital of France?", "Name three animals that live in the sea.")
"""Asked of the given and of the exported model; their answers are told beside each other."""
