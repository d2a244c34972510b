# ruff: noqa: E501 - one line of a template is one slot of a story
"""Story templates of the world outside: weather, garden, farm, sea, travel."""

from __future__ import annotations

__all__ = ["STORIES"]

_WEATHER = [
    """It will [be {sky} in the {where_rain}|snow in the {where_rain}|be {sky} in the {part_of_day}|rain all day|rain tomorrow|be cold in the {where_rain}|get {sky} in the {part_of_day}|rain on {day}|not rain in the {where_rain}|soon rain in the {where_rain}], [and|but] [a strong wind will blow from the {side}|the sun will come out later|there will be fog near the {nature_place}|the roads will be wet|the night will be {sky}].
    [Tomorrow|On {day}|At the end of the week|Later in the week] it [will be {good_sky}|may rain again|will get warmer|will get colder|may snow in the mountains].
    ? [Do not forget your umbrella|Please drive carefully|Take a warm coat with you|Farmers will be {happy} about the water|Stay at home if you can].
    ? The temperature will [rise|fall] to {number} degrees.
    [That was the weather for today|In {month} such weather is normal|After that, {season} will finally begin].""",
    """[It may|It might|It could|It should|It did not|It does not often|Perhaps it will also] rain in the {where_rain} [today|tomorrow|on {day}|this {part_of_day}|next week|again], [and|but|so] [the sky is {sky}|take an umbrella with you|the wind will be strong|the farmers need the water|we will stay at home|it will be {good_sky} near the sea|nobody will be surprised].
    [In the {part_of_day} the clouds will go away|The {part_of_day} will be {sky}|Near the {nature_place} there may be some fog|There will be a storm at night].
    ? [The river is already very high|The paths near the {nature_place} are wet|The sea is rough].
    [On {day} the sun will shine again|Tomorrow will be a {sky} day|We hope for better weather next week].""",
    """The weather [yesterday|this morning|this week|in {month}|in {country}|on {day}|near the sea|last week] was {sky} and {sky}.
    [There was|There were|We saw] [a strong wind|a lot of snow|dark clouds in the sky|a rainbow over the {nature_place}|hardly any clouds|a little rain in the {part_of_day}].
    [People|The {crowd}|Most people] [stayed at home|wore their warm coats|walked in the park|sat in front of the cafe|carried umbrellas].
    [Later it got {sky.1}|In the {part_of_day} it was {sky.1}|After that it got warmer], and [the {crowd} went home|the birds began to sing|the streets were empty|everyone was {happy}].""",
    """Today [it is|the weather is|the sky is|the air is] [{sky} and {sky}|very {sky}|{sky}, but not {sky}|a little {sky}], and the {bird+s} are [singing|quiet|flying low|sitting on the roof].
    [We can|I will|The {crowd} can|Let us] [go for a walk|work in the garden|stay inside and read @ {book}|play {sport}|hang the clothes outside|fly a kite|go to the {nature_place}].
    ? My {relative} says that {season} is [late|early|the best time of the year] this year.
    [Maybe it will rain later|The evening will be {sky}|Tomorrow it will be different|I like this kind of weather].""",
    """[Dark|Grey|Black|Heavy] clouds [came|rolled|moved] over the {nature_place}, and [the wind grew stronger|the {bird+s} were silent|it got dark].
    [Then|Soon|A moment later] [it began to rain|the rain came down|there was lightning and thunder|the first drops fell].
    {hero} [{was} on the way to the {town_place}|{was} working in the garden|forgot to close the window|forgot {his} umbrella] and [got very wet|ran to a {tree}|hurried home|looked for a dry place].
    ? [The streets turned into rivers|A branch fell on the road|The lights went out in the whole village].
    [After {distance}|At {time}|In the evening] the storm was over, and [a rainbow stood in the sky|the air was fresh|the sun came out|everything smelled of wet grass].
    {he} [changed {his} clothes|made a cup of {drink}|dried {his} hair] and [sat near the fire|was glad to be at home|went to bed early].""",
    """[{he}|{hero}|We|{girl}|My {relative}] forgot [his|her|my|an|the] [umbrella|coat|hat|raincoat|ticket|money|gloves], so [{hero} got wet|the rain ran down my neck|we had to go back home|we waited {distance} under @ {tree}|we ran to the bus stop|we stayed in the {town_place}|a friend had to help].
    [It was {bad_sky.1}|The day was {bad_sky.1}|The wind was cold and strong], and [the {transport} was late|the {town_place} was closed|nobody was in the street|the {crowd} hurried home].
    [At home there was {bowl_food} and hot tea|Luckily a {nature} {job} helped us|In the end we took a taxi].
    [Next time we will think of it|Such a thing happens to everyone|We laughed about it later|From then on the umbrella hung beside the door].""",
    """When the [rain stopped|sun rose|snow melted|storm was over|wind grew weaker|clouds went away|sun went down], the {crowd} [went outside|came out of their houses|ran to the {nature_place}|started to play|put on their coats|walked home|opened the windows].
    [The grass was still wet|The sky was blue|The air was {good_sky}|There was mud everywhere|The {nature_place} looked beautiful].
    ? {boy.1} [found @ {sea_thing}|saw @ {bird}|jumped over a puddle|slipped and fell].
    [It was the first {good_sky} day of {season}|They stayed there until {time}|It was a good day after all|Nobody wanted to go home].""",
    """In [spring|summer|autumn|{month}|{month}] the [lake|river|garden|forest|park|beach|village|field] is [full of {crowd}|full of {bird+s}|{sky}|green|very quiet|beautiful|covered with {flower+s}|covered with leaves], and [the days are long|the nights are cool|the air is {sky}|the {bird+s} sing|the farmers work from morning until night].
    In winter the [river|garden|forest|park|village|field|pond|mountain] is [covered with snow|frozen|white and silent|empty|covered with ice|cold and dark], and [the {crowd} skate on the ice|nobody swims there|the {wild_animal+s} look for food|the {crowd} build a snowman|people stay near the fire].
    ? [The old {job} feeds the {bird+s}|A {wild_animal} leaves its footprints in the snow|The {tree+s} have no leaves].
    [Then {season.1} comes|But soon the sun is back|Every season has its own colours], and [everything begins again|the {flower+s} open|the ice melts|life is easy again].""",
    """It [snowed|had snowed|was snowing] all night, and in the morning [the garden|the street|the whole village] was white.
    {hero} put on {his} [warm coat|boots|gloves|scarf] and went outside with {his} {sibling.1}.
    {they} [built a snowman|threw snowballs|pulled the sledge up the hill|cleared the path] and [laughed|shouted|sang].
    ? The snowman got @ {colour} scarf, a carrot for a nose and an old {kitchen_tool} for a hat.
    [When it got dark|At {time}], {they} went in and drank [hot chocolate|hot tea|warm milk].""",
]

_GARDEN = [
    """{hero} [worked|{was} working|spent the {part_of_day}] in the garden because [it was {good_sky}|{season} had come|the {flower+s} needed water|{his} {parent} was ill].
    First {he} took the {garden_tool} and [dug the ground|cut the grass|watered the {flower+s}|picked the {vegetable+s}|pulled out the weeds].
    ? @ {insect} [sat on a leaf|landed on {his} hand|flew over the fence].
    Then {he} planted [{number} {flower+s}|@ {tree}|a row of {vegetable+s}|some {vegetable+s}] [near the wall|beside the path|in front of the house|under the window].
    [After {distance}|When the sun went down], {he} [{was} tired but {happy}|washed {his} hands|sat under the {tree}].
    [In {month} there will be plenty of {vegetable+s}|A few weeks later the garden was full of colours|The neighbours said that it was the loveliest garden in the street].""",
    """[There was|There was|There is|Once there was|In our garden there is] a [{size}|little|little|young|{colour}|{nature}] [{bird.1}|{bird.1}|{bird.1}, a bird with @ {colour} head,|bird called @ {bird.1}] in the [{tree.2}|garden|forest|tree near the house].
    It [had|built|made] a nest [high in the branches|of grass and feathers|behind the leaves|in an old hat], and [there were {number} eggs in it|it sang every morning].
    [One day|One {part_of_day}|In {month}] [a {wild_animal} came|a cat came|the wind was strong|a boy climbed up the tree].
    The {bird.1} [was {sad}|cried loudly|did not fly away|spread its wings], [but {hero} helped|but @ {nature} {job} helped|but nothing happened|and the whole garden heard it].
    [Soon|A few days later|At the end of {season}] the young ones [learned to fly|left the nest|were big and strong].
    [In {season} they came back|The garden was quiet after that|Everybody was {happy} about it].""",
    """The children [played|were playing|stayed|ran around] in the [park|yard|street|field|garden all day|garden with @ {toy}|meadow|garden and laughed] until [it was dark|it began to rain|their mother called them|dinner was ready|the sun went down|the bell rang|they were tired|{time}].
    [They had @ {toy} and @ {toy}|They played {sport}|They looked for {insect+s}|They climbed @ {tree}|They built a house of branches].
    ? [One of them fell and hurt a knee|A {dogkind} wanted to play too|The {toy} flew over the fence|The neighbour gave them {fruit+s}].
    [Then they washed their hands and ate {bowl_food}|After supper they fell asleep at once|The next day they wanted to do the same again|Their clothes were dirty, but they were {happy}].""",
    """@ {wild_animal.1} [lived|had its home] [under|near] an old {tree.1} at the edge of the {nature_place.2}.
    Every {part_of_day} it [came out|looked for food|ran to the {nature_place.2}|ate {fruit+s}].
    One day it met @ {wild_animal.3} who was [{sad.1}|hungry|lost].
    "[why are you so {sad.1}|what is the matter|can I help you]?" asked the {wild_animal.1}.
    "[I cannot find my home|winter is coming and I have no food|nobody wants to play with me]," [answered|said] the {wild_animal.3}.
    [So they shared the {fruit+s}|So they looked together|So they played until the evening].
    From that day on they were [good friends|never alone|the best of friends].""",
]

_FARM = [
    """The farmer [went|drove|walked|goes] to the [market|village|field|stable|barn] [to sell|to feed|to find|to look for|early in the morning with] [the {farm_animal+s}|his {farm_animal+s}|{number} {farm_animal+s}|{vegetable+s} and {fruit+s}|fresh {vegetable+s}].
    [He had|The farm has|There were] {number} {farm_animal+s}, {number} {farm_animal+s} and @ {colour} {farm_animal.1}.
    The {farm_animal.1} was [hungry|{nature}|old|very strong|hiding behind the barn].
    ? His wife [milked the cows|collected the eggs|fed the {farm_animal+s}] and made {grocery}.
    [In the evening|After work|When the sun went down], [they counted the money|the animals slept in the stable|they ate {bowl_food}|everyone was tired].""",
    """[{hero} went|A man went|The old woman went|The cook went|My {parent} went] to the [market|shop|farm|town|bakery|supermarket] to buy [{vegetable+s} and {fruit+s}|{grocery} and {grocery}|@ {farm_animal.1}|some fish|{number} {fruit+s}|@ {garden_tool}|bread and cheese].
    "how much [is it|does it cost|does everything cost]?" was the question.
    "[only {money.1}|{money.1}, because it is fresh|{money.1} for you, my friend]," said the [farmer|seller|woman|{job}].
    [It was a good price|That was too much|There was just enough money], so [the bag was soon full|they talked for {distance}|they agreed on {money}].
    [On the way home it began to rain|The way home was long|The {vehicle} was full, but everybody was {happy}].""",
    """On the farm of {his} {relative.1} there [are|were] [{farm_animal+s}|{number} {farm_animal+s}], {farm_animal+s} and @ {nature} {farm_animal.2}.
    {hero} [helped|got up at {time}|{was} there in {season}] and [fed the {farm_animal+s}|carried hay|looked for eggs|learned to milk a cow|rode on the {farm_animal.2}].
    ? [One {part_of_day} a {farm_animal.3} ran away|The gate was open, and the {farm_animal+s} ran away|A {wild_animal} came at night].
    [Everybody ran after the animals|The dog brought them back|It took {distance} to bring them back].
    [In the evening there was {bowl_food} and {bread}|At night {they} slept in the hay|{hero} never wanted to leave].""",
]

_SEA = [
    """A [big|little|white|old|fast|{colour}] {boat.1} [sailed|came|moved|went] [slowly|quickly|quietly] [across|over|down|up] the [sea|river|lake|bay|water|harbour].
    The [captain|sailor|fisherman|man] [stood|sat] [at the wheel|in front|near the mast] and [looked at the stars|sang an old song|smoked a pipe|watched the waves].
    [Suddenly|Then|In the night] [a storm came|the wind grew stronger|the fog was thick|a light appeared].
    [The waves were as high as a house|Everybody held on to a rope|They heard the bell of the {boat.1}|They pulled down the sail].
    [After {distance}|In the morning] the sea was calm, and they [saw an island|reached the harbour|caught {number} {fish+s}|were safe].
    ? The people in the harbour [waved|cheered|were {happy}].""",
    """{hero} went to the [beach|sea|coast|harbour] with {his} {relative.1} on @ {good_sky} {day}.
    [The water was cold|The water was warm|The water was clear|The sand was hot|The waves were small|The sea was calm and blue], and [the {crowd} were swimming|the seagulls cried|there were many {boat+s}].
    {they} [swam|built a castle of sand|collected shells|ate ice cream|lay in the sun] and found @ [{colour}|{size}|{look}] {sea_thing.1}.
    ? A {job} [sold {drink}|talked about the fish|repaired a {boat}].
    [When the sun went down|At {time}|In the evening], {they} [walked back along the shore|went home by {transport}|were tired and {happy}].
    The {sea_thing.1} [stands on a shelf|lies on the windowsill|is in a box] [now|at home|to this day].""",
    """[The fisherman|An old fisherman|{his} {parent.1}] [got up|left the house|went out] at {time} to catch [{fish+s}|fish] [in the river|far out on the sea|near the {nature_place}].
    [He threw the net|He sat in the {boat.2}|He looked at the dark water] and waited {distance}.
    [At first|For a long time] there was nothing but @ {sea_thing}.
    Then [the net was heavy|something pulled at the line|the water began to move], and he caught [{number} {fish.1+s}|a very big {fish.1}].
    [He sold the fish at the market for {money}|At home they ate {fish.1} with {vegetable+s}|The cat was waiting at the door|He let the smallest one swim away].""",
]

_TRAVEL = [
    """[Last {month}|Last year|Last spring|Last winter|In {month}|Two years ago|Next summer|In the holidays] [we|{hero}|the {surname} family|my {relative} and I] [went|travelled|drove|flew] to {holiday_place.1} [by {transport.2}|with friends|for {number} days|with {his} {relative}].
    [The journey took {distance}|The trip was long|The road was full of {vehicle+s}], but [the view was beautiful|nobody was bored|we sang all the way].
    [We stayed|They stayed|Everybody stayed] in @ [{size}|{look}|{nature}] [hotel|house|tent|room] near the {nature_place.2}.
    Every day there was [something new|a trip to the {town_place}|a walk to the {nature_place}|fresh {fish} and {drink}|time to swim].
    ? On {day} it was {bad_sky}, so we [visited the museum|played {sport}|wrote postcards|slept until noon].
    [It was a wonderful time|Nobody wanted to go home|We took many pictures|We want to go there again next year].""",
    """[We|They|The brothers|The {crowd}] took the [bus|tram|ferry|plane|early train|wrong train|night train|last bus|taxi|train at {time} and went] to [the {town_place}|{far_place.1}|the {nature_place}|the sea|the mountains|the airport|the city].
    [The ticket cost {money}|There was a free seat by the window|It was full of {crowd}|The journey took {distance}].
    [Outside|Through the window], [they saw {farm_animal+s} and green fields|the {nature_place} passed by|the houses got smaller|it was {sky}].
    ? A {nature} {job} [told a funny story|offered them {fruit+s}|slept all the way|read @ {book}].
    [At {time}|At last|After {distance}] they [arrived|got off|were there], and [somebody was waiting|it was raining|the sun was shining|the first thing they saw was the {town_place}].""",
    """The [bus|train|tram|taxi|ferry|plane|postman|doctor] was [early|full|very late|on time|late again|late because of the snow], [and|so|but] [{hero} had to wait {distance}|the {crowd} waited in the cold|{hero} missed the beginning of the lesson|nobody was {sad}|we walked to the {town_place}|we came home after dark|the driver said sorry].
    [It was {bad_sky}|The wind was cold|It was already {time}], and [there was no bench|the {town_place} was closed|everybody looked at the clock].
    ? [A woman shared her umbrella|A man told jokes|A child began to sing|Somebody had {drink} in a bottle].
    [In the end|At last|At {time}] it [came|arrived|was there], and [everybody was {happy}|the {crowd} got in|the journey could begin].""",
    """{hero} {was} [packing|ready to pack] {his} suitcase for a trip to {far_place.1}.
    {he} took @ {clothing}, @ {clothing}, @ {book} and {his} {lost_thing.2}.
    "[do you have your ticket|when does the {transport.3} leave|will you write to us]?" asked {his} {relative.1}.
    [The {transport.3} left at {time}|At {time} the journey began|{he} went to the station by taxi].
    In {far_place.1} {he} [visited the {town_place}|walked through the old streets|met an old friend|ate {plate_food}|took many pictures].
    ? {he} also [bought|found|saw] @ {look} {gift} for {his} {relative.1}.
    [After {number} days {he} came home|The {number} days went by quickly], {happy} and [tired|full of stories].""",
    """[They|A woman and a guide|The {crowd}|The two brothers|{girl} and her {sibling}] [walked|climbed|hiked] [to the top of the mountain|through the {nature_place.1}|up the hill|along the river] for {distance}.
    [The path was {size} and steep|There were {flower+s} on both sides|It was {sky} and quiet|They crossed a wooden bridge].
    [They saw|On the way they saw] @ {wild_animal}, {number} {bird+s} and [a waterfall|an old castle|a cave].
    At noon they [sat on a stone|rested under @ {tree}] and ate {bread} and {fruit+s}.
    ? [Then the fog came, and they lost the way|One of them had lost the map|A cold wind began to blow].
    [At the top|In the end|When they arrived] they [could see the whole valley|were proud and tired|shouted with joy|drank from a clear stream].""",
]

STORIES = _WEATHER + _GARDEN + _FARM + _SEA + _TRAVEL
