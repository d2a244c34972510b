"""The word lists that fill the slots of the story templates.

Nouns are singular and countable unless the list says otherwise; ``grammar.py`` makes the plurals.
"""

from __future__ import annotations

__all__ = ["LISTS"]


def _words(text: str) -> list[str]:
    return [" ".join(entry.split()) for entry in text.split(",")]


_PEOPLE = {
    "boy": """Tom, Ben, Sam, Jack, Peter, Paul, Henry, Leo, Max, Oliver, David, Daniel, Oscar,
        Felix, Hugo, Simon, Adam, Noah, Martin, Robert, George, Edward, Victor, Arthur, Carlos,
        Ivan, Omar, Jonas, Erik, Anton, Marco, Rafael""",
    "girl": """Anna, Emma, Lucy, Mary, Sara, Alice, Rosa, Nina, Clara, Julia, Helen, Maria, Sophie,
        Eva, Kate, Laura, Ruth, Grace, Molly, Daisy, Olivia, Irene, Martha, Elena, Greta, Ingrid,
        Fatima, Amira, Hanna, Carla, Stella, Vera""",
    "surname": """Brown, Green, Miller, Baker, Hill, Wood, Fisher, Taylor, Young, King, Carter,
        Stone, Marsh, Potter, Turner, Walker, Bell, Cook, Reed, Field""",
    "parent": "mother, father, grandmother, grandfather",
    "relative": """brother, sister, cousin, uncle, aunt, mother, father, grandmother, grandfather,
        big brother, little sister, younger brother, older sister""",
    "sibling": "brother, sister, cousin, little brother, little sister, big sister, big brother",
    "job": """baker, doctor, nurse, teacher, farmer, driver, painter, carpenter, plumber, gardener,
        cook, tailor, fisherman, builder, singer, writer, dentist, pilot, sailor, mechanic,
        librarian, postman, waiter, shopkeeper, policeman, engineer, actor, butcher, barber,
        musician, photographer, firefighter, scientist, electrician, florist""",
    "crowd": """children, boys, girls, neighbours, tourists, visitors, students, friends, workers,
        players, families, shoppers, passengers""",
}

_ANIMALS = {
    "pet": "cat, kitten, rabbit, hamster, parrot, pony, goldfish, turtle, canary, guinea pig",
    "dogkind": "puppy, terrier, sheepdog, spaniel, poodle, collie, hound, dog",
    "petname": """Biscuit, Rex, Bella, Coco, Ginger, Buddy, Pepper, Shadow, Snowy, Lucky, Max,
        Honey, Toffee, Patch, Misty, Rusty, Oscar, Tiger, Smokey, Pickle, Bruno, Luna, Muffin,
        Sandy""",
    "farm_animal": """cow, horse, sheep, goat, pig, hen, duck, goose, donkey, rooster, lamb, calf,
        turkey, pony""",
    "wild_animal": """fox, deer, hare, squirrel, hedgehog, badger, wolf, bear, otter, beaver,
        mouse, frog, lizard, mole, rabbit, raccoon""",
    "zoo_animal": """lion, tiger, elephant, monkey, giraffe, zebra, camel, crocodile, kangaroo,
        penguin, panda, hippo, leopard, gorilla, snake, seal""",
    "bird": """robin, sparrow, owl, crow, pigeon, blackbird, swallow, seagull, woodpecker, eagle,
        hawk, swan, stork, magpie, finch, dove, wren, heron""",
    "fish": "trout, salmon, cod, herring, sardine, carp, mackerel, eel",
    "insect": """butterfly, bee, ladybird, ant, beetle, grasshopper, dragonfly, spider, moth,
        snail, cricket""",
}

_FOOD = {
    "bowl_food": """soup, tomato soup, vegetable soup, chicken soup, onion soup, rice, porridge,
        noodles, stew, pasta, salad, ice cream, cereal, beans, oatmeal, fruit salad, pudding,
        curry, fish soup, lentil soup, strawberries, cherries, popcorn, spaghetti, yoghurt""",
    "plate_food": """pancakes, fried eggs, sausages, roast chicken, potatoes, fried fish, rice and
        beans, dumplings, spaghetti, meatballs, grilled vegetables, ham and eggs, chips, waffles,
        boiled potatoes, baked beans, mashed potatoes, fish and chips, roast beef, steamed rice""",
    "fruit": """apple, pear, orange, banana, peach, plum, lemon, cherry, strawberry, melon, grape,
        apricot, mango, fig, raspberry, pineapple, blueberry, lime""",
    "vegetable": """carrot, potato, onion, tomato, cabbage, cucumber, pepper, leek, pumpkin,
        turnip, bean, beetroot, radish, mushroom, lettuce, courgette""",
    "baking": """flour, sugar, butter, milk, honey, cream, chocolate, nuts, raisins, cinnamon,
        eggs, vanilla, almonds, cocoa, yeast, salt""",
    "cake": """apple pie, chocolate cake, lemon cake, carrot cake, cherry tart, plum cake,
        gingerbread house, cheesecake, honey cake, birthday cake, pear tart, sponge cake, nut
        cake""",
    "bread": """fresh bread, white bread, brown bread, rye bread, warm rolls, sweet buns, biscuits,
        cookies, croissants, toast and jam, scones, muffins, pastries""",
    "drink": """water, milk, tea, coffee, lemonade, orange juice, apple juice, hot chocolate,
        cocoa, cold water, green tea, grape juice, iced tea, mineral water""",
    "grocery": """flour, sugar, butter, salt, rice, milk, honey, cheese, eggs, olive oil, pepper,
        jam, yoghurt, vinegar, tea, coffee, bread, cream, chocolate, nuts, raisins, cinnamon,
        garlic""",
    "filling": """cheese, ham, tomatoes, butter, jam, honey, chicken, tuna, cucumber, egg, peanut
        butter""",
    "taste": """delicious, sweet, tasty, too salty, warm and filling, fresh, wonderful, a little
        sour, spicy, creamy, crisp, juicy, too hot to eat, perfect""",
    "kitchen_tool": """pan, pot, spoon, fork, knife, plate, bowl, cup, kettle, oven dish, glass,
        jug, frying pan, rolling pin, teapot, saucepan, mug, tray, grater, ladle""",
}

_PLACES = {
    "town_place": """library, museum, bakery, market, park, station, school, church, bank, post
        office, theatre, cinema, hospital, town hall, bookshop, swimming pool, cafe, zoo, chemist,
        square, harbour, playground, toy shop, restaurant, shoe shop, supermarket, stadium, bus
        stop""",
    "shop": """bookshop, toy shop, market, supermarket, flower shop, jeweller, shop at the corner,
        old shop near the {town_place}, music shop, department store, village shop, gift shop""",
    "room": """kitchen, bedroom, living room, bathroom, hall, attic, cellar, dining room, garage,
        study""",
    "nature_place": """forest, river, lake, field, meadow, hill, valley, mountain, beach, pond,
        garden, village, stream, waterfall, orchard, vineyard, cave, island, cliff, desert""",
    "far_place": """Paris, London, Rome, Madrid, Vienna, Lisbon, Berlin, Athens, Oslo, Cairo,
        Dublin, Prague, Istanbul, Venice, Barcelona, Copenhagen, Geneva, Naples, Warsaw,
        Edinburgh""",
    "country": """Italy, Spain, France, Greece, Norway, Japan, Egypt, India, Mexico, Canada,
        Brazil, Portugal, Ireland, Morocco, Iceland, Turkey, Peru, Kenya, Scotland, Switzerland""",
    "holiday_place": """the sea, the mountains, the coast, a lake, an island, the countryside, a
        small village, a farm, the beach, the south of {country}, {far_place}, {country}""",
    "soft_place": """sofa, bed, carpet, chair, armchair, cushion, rug, blanket, mat, pillow,
        windowsill, doorstep, porch, bench, roof, wall""",
    "hiding_place": """under the bed, behind the curtain, in the cupboard, under the table, behind
        the door, in the basket, under the sofa, in the drawer, on the shelf, behind the piano, in
        the bathroom, under a pile of clothes, in the garage, in a shoe, behind the oven, in the
        shed""",
    "side": "north, south, east, west, sea, mountains, hills, north west, south east",
    "where_rain": """{side}, {side}, mountains, valley, city, countryside, whole country, villages
        near the sea, evening, evening, afternoon, afternoon, morning, morning, early morning, late
        afternoon, night, middle of the day, first half of the week""",
    "furniture": """table, chair, bed, cupboard, wardrobe, shelf, desk, lamp, mirror, sofa,
        bookcase, piano, clock, stool, bench, chest, cradle, ladder, fence, gate, cabinet""",
}

_NATURE = {
    "sky": """sunny, cloudy, windy, foggy, stormy, rainy, cold, warm, hot, wet, dry, mild, cool,
        grey, bright, freezing, humid, pleasant, frosty, clear, gloomy, chilly""",
    "good_sky": "sunny, warm, bright, mild, dry, pleasant, lovely, clear, fine, hot",
    "bad_sky": """rainy, cold, stormy, windy, foggy, wet, freezing, gloomy, grey, dreadful, chilly,
        icy""",
    "season": "spring, summer, autumn, winter",
    "month": """January, February, March, April, May, June, July, August, September, October,
        November, December""",
    "day": "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
    "part_of_day": "morning, afternoon, evening, night",
    "flower": """rose, tulip, daisy, lily, sunflower, poppy, violet, daffodil, orchid, lavender
        bush, carnation, geranium, snowdrop, marigold""",
    "tree": """oak, apple tree, pine, birch, willow, chestnut tree, pear tree, palm tree, maple,
        cherry tree, walnut tree, beech, fir tree, lemon tree, olive tree""",
    "garden_tool": """spade, rake, watering can, bucket, wheelbarrow, pair of gloves, hoe, basket,
        hose""",
    "sea_thing": """shell, crab, starfish, pebble, piece of driftwood, jellyfish, bottle, feather,
        smooth stone, piece of rope, sea snail, old anchor, coin""",
    "boat": """boat, ship, ferry, sailing boat, rowing boat, fishing boat, canoe, yacht, steamer,
        raft""",
    "distance": """ten minutes, half an hour, an hour, two hours, three hours, a long time, a whole
        week, twenty minutes, five minutes, an hour and a half, a quarter of an hour""",
}

_THINGS = {
    "colour": """red, blue, green, yellow, white, black, brown, grey, orange, pink, purple, golden,
        silver, dark blue, light green, bright red""",
    "size": "small, big, little, large, tiny, huge, tall, short, long, round, narrow, wide",
    "clothing": """coat, hat, scarf, jacket, shirt, dress, sweater, skirt, pair of shoes, pair of
        boots, cap, raincoat, pair of gloves, suit, belt, pair of trousers, pair of socks, apron,
        cardigan""",
    "toy": """ball, doll, kite, train, puzzle, teddy bear, drum, wooden horse, box of blocks,
        skateboard, bicycle, scooter, toy car, spinning top, board game, pack of cards, whistle,
        balloon, robot""",
    "gift": """book, watch, bicycle, guitar, camera, vase, ring, necklace, painting, clock, scarf,
        bottle of perfume, box of chocolates, bunch of flowers, puppy, kitten, teapot, toolbox,
        radio, pair of slippers, umbrella, diary, telescope, bracelet, candle""",
    "lost_thing": """key, wallet, ring, umbrella, hat, glove, purse, watch, ticket, phone,
        schoolbag, notebook, passport, pencil case, necklace, scarf, letter""",
    "book": """book, novel, story, poem, letter, newspaper, magazine, comic, fairy tale, diary,
        cookery book, dictionary, atlas, history book""",
    "subject": """history, geography, science, music, English, French, art, biology, chemistry,
        spelling, physics, arithmetic, drawing, mathematics""",
    "school_thing": """pencil, pen, notebook, ruler, rubber, schoolbag, lunch box, map, pair of
        scissors, box of crayons, calculator, dictionary, globe""",
    "instrument": """piano, guitar, violin, flute, drum, trumpet, cello, accordion, harp, clarinet,
        saxophone""",
    "sport": """football, tennis, basketball, volleyball, chess, hockey, cards, hide and seek,
        badminton, table tennis, baseball, rugby, cricket, golf""",
    "vehicle": """bus, train, tram, taxi, plane, car, ferry, bicycle, lorry, motorbike, van,
        tractor, underground""",
    "transport": "bus, train, tram, ferry, plane, taxi, bus, train, underground, night train, boat",
    "machine": """car, washing machine, clock, radio, bicycle, computer, lamp, television, oven,
        door bell, sewing machine, fridge, toaster, printer, telephone, heater, vacuum cleaner""",
    "money": """one pound, two pounds, three pounds, five pounds, ten pounds, fifty pence, twenty
        pounds, four pounds, eight pounds, seven pounds, a hundred pounds""",
    "number": """two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, twenty,
        thirty, fifty""",
    "time": """one o'clock, two o'clock, three o'clock, four o'clock, five o'clock, six o'clock,
        seven o'clock, eight o'clock, nine o'clock, ten o'clock, half past six, half past seven,
        noon, midnight, a quarter past nine, half past three""",
}

_MOODS = {
    "happy": "happy, glad, cheerful, proud, delighted, excited, pleased, thankful, merry, joyful",
    "sad": """sad, tired, worried, upset, angry, disappointed, lonely, afraid, nervous, unhappy,
        annoyed, ashamed""",
    "nature": """kind, friendly, clever, quiet, funny, polite, strong, brave, patient, honest,
        gentle, lazy, shy, curious, careful, generous, serious, helpful, stubborn, busy""",
    "look": """old, new, beautiful, pretty, ugly, broken, clean, dirty, expensive, cheap, heavy,
        light, wooden, simple, strange, lovely, soft, famous, shiny, dusty, modern, ancient""",
    "gladly": """happily, slowly, quickly, quietly, loudly, carefully, softly, proudly, gently,
        kindly, calmly, bravely, eagerly, politely""",
    "sick": "a cold, a headache, a fever, a sore throat, a stomach ache, a bad cough, a toothache",
}

LISTS: dict[str, list[str]] = {
    key: _words(text)
    for group in (_PEOPLE, _ANIMALS, _FOOD, _PLACES, _NATURE, _THINGS, _MOODS)
    for key, text in group.items()
}
