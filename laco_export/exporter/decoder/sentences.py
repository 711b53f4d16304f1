"""A few questions with their answers, and two paragraphs: what a decoder is judged on where the user gives no texts.

Plain English of many subjects, written for this, so that no model was trained on it.
"""

QUESTIONS_AND_ANSWERS = (
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
"""``(question, answer)``."""

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

GREEDY_QUESTIONS = ("What is the capital of France?", "Name three animals that live in the sea.")
"""Asked of the given and of the exported model; their answers are told beside each other."""
