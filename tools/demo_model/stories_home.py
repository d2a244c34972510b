# ruff: noqa: E501 - one line of a template is one slot of a story
"""Story templates of the house: food, pets, family, health. One line is one slot of a story.

A line that starts with "? " is left out half of the time.
"""

from __future__ import annotations

__all__ = ["STORIES"]

_FOOD = [
    """[{hero} <want> to eat|{hero} <would like> to eat|We want to eat|They want to eat|{boy} wants to eat|Today I want to eat] @ [small|big|large|warm|little|whole|deep] [bowl of {bowl_food.1}|bowl of {bowl_food.1}|plate of {plate_food.1}].
    It [smells|looks|tastes] [so good|very good|wonderful|delicious] [today|when it is cold outside|on a {bad_sky} day|after a long walk].
    ? [My {parent.2} makes it with {grocery} and {grocery}|The recipe needs {vegetable+s}, {grocery} and a lot of time|The cook puts {grocery} and a little salt in it].
    [First we have to wash our hands|First somebody must lay the table|But the pot is still on the fire], [and then we can start|so we must wait a little longer|and everybody is hungry].
    ? After that there is {cake} with [cream|tea|{fruit+s}|ice cream] [for everyone|for the guests|for dessert].
    [I hope that there is enough for all of us|Nobody leaves the table hungry|It is the best meal of the week].""",
    """I want to [drink|have] a [big|small|tall|cold|hot] [glass|cup|mug] of {drink.1}.
    [I have been working in the garden all {part_of_day}|I walked home from the {town_place}|I played {sport} with my friends], and now I am [very thirsty|tired and thirsty].
    ? There is {drink} in the fridge, but I like {drink.1} better.
    [Then I want to sit on the {soft_place} and read @ {book}|After that I will eat @ {fruit} and rest|Then I will make {bread} for the whole family].
    [It is good to be at home|What a lovely end of the day|Nothing is better after a long day].""",
    """[I am|We are|{hero} {is}] [very|so] hungry [today|this {part_of_day}|after the long walk|after school].
    [I want to eat|We want to eat|I would like to eat|She wants to eat|He wants to eat] [something warm|a piece of {cake.1}|@ {fruit} and some {bread}|a big plate of {plate_food}|a small bowl of {bowl_food}|a big bowl of {bowl_food}|a sandwich with {filling}].
    ? There is nothing in the fridge but {grocery} and an old {vegetable}.
    [So we go to the {town_place} and buy {grocery}, {grocery} and {bread}|So my {parent} cooks {plate_food} for all of us|So we all go to the little restaurant at the corner].
    [Now nobody is hungry any more|The food is {taste}, and we eat all of it|We drink {drink} with it and talk about the day].""",
    """[For|On {day} for|Yesterday for] [breakfast|breakfast|lunch|dinner|supper] {hero} had {bread} with {filling.1} and a [cup|glass|mug] of {drink}.
    [The {filling.1} [was|tasted] {taste}|It tasted {taste}|Everything was {taste}].
    ? {he} also ate @ {fruit} and [a little|some|a bowl of] {bowl_food}.
    [Then|After that|Later] {he} washed the [plates|dishes|cups|glasses] and [went to the {town_place}|put them on the shelf|left the house|cleaned the table|started to work].
    ? In the evening {he} {was} hungry again and made {plate_food}.""",
    """{his} {parent.1} [bakes|makes|often bakes|sometimes bakes] {cake.1} [every {day}|on {day}|for the whole family|when it is {sky} outside|for birthdays].
    First [someone|a strong hand|somebody] mixes {baking}, {baking} and {baking} in a large [bowl|pot].
    Then the {fruit+s} are washed and cut into [small pieces|thin slices|halves].
    The cake stays in the oven for {distance}, and the whole [house|kitchen|street] smells [sweet|wonderful|of sugar and {fruit+s}].
    ? [The children|The neighbours|The cat and the children] wait [near the oven|at the table|in front of the kitchen door].
    [At last everybody gets a big piece|It is always {taste}|There is never a crumb left|We eat it with {drink}].""",
    """My [grandmother|mother|aunt|grandfather|father] [cooks|makes|loves|sells|is famous for] [the best|very good|a lot of|wonderful] {bread}.
    [People come from far away to taste it|The secret is a spoon of {grocery}|The recipe is more than fifty years old|It is made with {grocery} and {grocery}].
    [On {day}|Every {day}|In the {part_of_day}] we [sit together in the {room}|meet at her house|eat it with {grocery} and drink {drink}].
    ? When I was little, I [always wanted one more piece|helped to stir the dough|licked the spoon].
    [I hope that I can learn it too|One day I will write the recipe down|It always makes me {happy}].""",
    """{hero} wanted to [bake|make] {cake.1} [for {his} {relative.1}|for a birthday|for the school party].
    {he} [took|needed|looked for] {baking}, {baking} and {number} eggs, but there was no {baking.2} in the {room}.
    So {he} [ran|walked|hurried|cycled] to the [shop|market|neighbour] and [bought|borrowed|asked for] some {baking.2}.
    [Back at home|Back in the kitchen], {he} mixed everything [carefully|with a wooden spoon|in a big bowl] and put it in the oven.
    After {distance}, the cake was [ready|golden brown|a little too dark|perfect].
    {his} {relative.1} [smiled|laughed|clapped] and said, "[this is {taste}|thank you very much|it is the best cake in town|I have never eaten a better one]." """,
    """[{hero} and a friend|Two friends|{boy} and {girl}] went to [a small|a new|an old|the] restaurant near the {town_place}.
    The waiter [brought the menu|was {nature}|showed them a table by the window].
    [One ordered {bowl_food.1}, the other ordered {plate_food.2}|They both ordered {plate_food.2} and {drink}|They asked for {bowl_food.1} and {bread}].
    ? [While they waited|Before the food came], they talked about [the weather|work|their holidays|old times|{sport}].
    The [food|meal|soup|fish] was {taste}, [but|and] it cost {money}.
    [They left a coin on the table|They thanked the cook|They promised to come back|They went home {gladly}].""",
]

_PETS = [
    """[Our|Her|His|Their|The neighbour's|My brother's|My uncle's|My friend's] dog is [called {petname.1}|@ {colour} {dogkind}|sleeping on the {soft_place}|barking at the {job}|running after @ {bird}|waiting for the {relative} of {girl}|{number} years old|very {nature}|{size} and {colour}|afraid of thunder|always hungry].
    [He|It] [likes to|loves to|can|wants to] [run in the park|chase the cat|bark at the postman|play with @ {toy}|swim in the river|sleep on the {soft_place}|dig holes in the garden|catch a stick].
    ? [At night|In the evening|After dinner] it [sleeps {hiding_place}|lies on the {soft_place}|guards the house|waits for a bone].
    [Every {part_of_day} we walk to the {nature_place} together|Everybody in the street knows it|When someone comes home, it wags its tail|It is the best friend of the whole family].""",
    """My [cat|rabbit|parrot|pony|hamster|little cat|old cat|goldfish|guinea pig|kitten] is [called {petname.1}|{colour} and {colour}|very {nature}|{number} years old|{size} and {nature}|sleeping on the {soft_place}|playing with @ {toy}|eating {vegetable+s}|waiting for {grocery}|asleep on the {soft_place}|the smallest in the street|always hungry|afraid of dogs].
    [It|My pet] [likes|loves|eats|wants] [milk|{fruit+s}|{vegetable+s}|fresh grass|fish|nuts|a little cheese] [more than anything else|every morning|very much].
    ? [It sleeps {hiding_place}|It often sits on the {soft_place}|It plays with @ {toy}|It hides {hiding_place} when there is a storm].
    [My dog and it are good friends|I brush it every {day}|I feed it before I go to school|My {relative} takes care of it when I am away].
    ? [I would not give it away for {money}|I love it very much|We will always be friends].""",
    """My dog [likes to|loves to|wants to|can] [be outside all day|play with the children|run in the {nature_place}|swim|jump over the fence|sleep near the fire|bark when the bell rings|carry @ {toy}].
    [Yesterday|Last {day}|This {part_of_day}|One day] it [ran after @ {bird.1}|found @ {lost_thing}|stole a sausage from the table|jumped into the {nature_place}|brought me @ {lost_thing}].
    [Everybody laughed|I was not angry|My {parent} was angry at first, but then we laughed|Nobody knew what to do].
    ? [Then I washed it with warm water|Then it got a big bone|Then it fell asleep {hiding_place}].
    A dog is [a good friend|never bored|sometimes a lot of work], [but I am {happy} to have one|and mine is the best|and I would not change it for anything].""",
    """{hero} [had|got|found|bought] @ [{nature}|{colour}|{size}|young] [{pet.1}|{dogkind.1}] [called|named] {petname.2}.
    {petname.2} [liked|loved] to [sleep|lie|sit|rest] on the {soft_place.1} [in the sun|all day|when it was {sky}|near the fire].
    One [morning|afternoon|evening] {hero} came home, and {petname.2} was [gone|not there|nowhere to be seen].
    {he} looked {hiding_place} and {hiding_place}, but [found nothing|there was nobody|found only @ {lost_thing}].
    ? {his} {relative} [helped|asked the neighbours|looked in the garden|called loudly].
    [At last|Finally|In the end] {he} heard a [soft|small|strange] noise and found {petname.2} {hiding_place}.
    {he} {was} very {happy}, and {petname.2} got [a bowl of milk|something good to eat|a little piece of fish|a new {toy}].""",
    """The [{colour}|{size}|old|young|little|{nature}] [cat|kitten|{dogkind}] [slept|lay|was lying|was asleep|sat|was sitting|was resting|was dreaming] [on|near|under|beside] the {soft_place.1} [all {part_of_day}|in the warm sun|next to the fire|when the door opened].
    [Suddenly|Then|After a while] it [heard|saw|smelled] [a mouse|@ {insect}|a strange noise|fresh fish|@ {bird}] [in the {room}|behind the door|outside the window].
    It [jumped up|opened one eye|pricked up its ears|ran to the window] and [waited|looked around|crept closer|did not move].
    [But it was only {hero}|But it was only the wind|But the door was closed|But it was too slow this time].
    So it [went back to the {soft_place.1}|fell asleep again|drank some milk|washed its paws] and dreamed of [fish|mice|summer|a bowl of cream].""",
    """{girl} was sleeping on [her|the] {soft_place} when the cat came in.
    [The cat was {sad}|The cat was hungry|The cat wanted to play] and [made a loud noise|pulled at the blanket|jumped on the bed].
    [She got up and gave it some milk|She opened one eye and laughed|She gave it a piece of fish].
    [Then both of them slept until {time}|Soon the house was quiet again|After that it was quiet until the morning].""",
    """{hero} went to the [pet shop|animal home|farm] with {his} {relative.1} because {he} wanted @ [{pet.2}|{dogkind.2}].
    There were [{pet+s}|{dogkind+s}], {pet+s} and even @ {bird}.
    "[which one do you like|do you see the small one|how much is this one]?" asked {his} {relative.1}.
    {hero} chose @ [{colour}|{nature}|very small] one with [big eyes|long ears|short legs|soft fur].
    It cost {money}, [and {they} took it home in a box|and {they} carried it home in a basket].
    [{he} called it {petname.3}|{they} named it {petname.3}], and {petname.3} soon [felt at home|learned its name|knew every corner of the house].""",
]

_FAMILY = [
    """[{hero} <live> with {his} family|The {surname} family lives] in @ [{size}|{colour}|old|{look}] house near the {nature_place}.
    [There are {number} rooms and a garden|The house has a {colour} door and a large {room}|Behind the house there is @ {tree}].
    {his} {parent.1} works as @ {job}, and {his} [uncle|aunt|cousin] is @ {job}.
    ? {his} {sibling.2} is {number} years old and likes {sport}.
    [On {day}|In the evening|On Sundays] [the whole family|everybody] [sits in the {room}|plays {sport}|goes to the {town_place}|eats together|tells stories].
    [They are a {happy} family|It is a {nature} home|The neighbours like to visit them|There is always somebody at home].""",
    """[After|Before|During] [dinner|lunch|breakfast|work|supper], [{his} {parent.1}|the old man|my uncle|our mother] [likes to|often likes to|wants to|always likes to] [read the newspaper|sit in the garden|play the {instrument}|listen to the radio|sleep on the {soft_place}|drink a cup of {drink}|tell a story|take a walk|play {sport}].
    [The children listen|Nobody makes a noise|The dog lies down beside the chair|The cat sits on the {soft_place}].
    ? [Sometimes there is {cake}|Sometimes a neighbour comes to visit|Sometimes the telephone rings].
    [Then|Later|At {time}] it is time to [go to bed|wash the dishes|lock the door|say good night].""",
    """It was the birthday of {his} {relative.1}, and {hero} wanted to [give|buy|make] something [special|{look}|useful].
    {he} [went to|looked in] the {shop} and [found|bought|saw] @ [{look}|{colour}] {gift.1} for {money}.
    {he} [wrapped|packed|put] it in {colour} paper [and wrote a card|with a ribbon|and hid it {hiding_place}].
    In the {part_of_day} [the guests|all the {crowd}|friends and neighbours] came and [sang a song|ate {cake}|danced to the music].
    {his} {relative.1} opened the present and [was very {happy}|smiled|could not believe it].
    "[I always wanted one|what a lovely surprise|how did you know|thank you so much]!" were the first words.""",
    """[The baby|The little one|My little brother|Her little sister] [cried|was crying|did not sleep|woke up] in the middle of the night.
    [Mother|Father|Grandmother] got up, [lit the lamp|opened the door quietly|warmed some milk] and [sang a soft song|told a story|walked up and down the {room}].
    ? The moon [shone|was shining] through the window.
    [After {distance}|At last|Soon] [the child fell asleep|it was quiet again|everyone could sleep].""",
    """[She|He|{hero}|The old woman|The boy|{girl}] opened the [door|box|letter|window|drawer|curtain|gate] and [looked out|looked inside|saw {bird.1} on the roof|called the children|felt the cold air|found @ {lost_thing}|smelled the flowers|let the fresh air in|waved to the neighbours].
    [Outside|In the street|In the garden], [it was {sky.1}|it was {sky.1} and quiet|the {crowd} were laughing|snow was falling|the sun was shining].
    ? Somewhere a [dog barked|bell rang|child sang|train whistled].
    "[good morning|what a {sky.1} day|it is time for breakfast|hello, {petname}]!" [said|called] a voice.
    [It was the {job} from next door|It was {his} {relative}|It was only the parrot].""",
    """{hero} could not find {his} {lost_thing.1}.
    {he} looked {hiding_place}, {hiding_place} and [in every pocket|in the {room}], but it was not there.
    "[when did you see it last|did you look {hiding_place}|maybe you left it at the {town_place}]?" asked {his} {relative.2}.
    ? {he} thought for a while and remembered [the walk to the {town_place}|the trip on the {vehicle}|the game of {sport}].
    [Then|At last|After {distance}] {he} [found it|saw it|discovered it] {hiding_place}.
    [It had been there all the time|The cat was sleeping on it|Everybody laughed|{he} {was} {happy} and put it in a safe place].""",
    """[{hero} had|The boy had|{girl} had] {sick.1} and [stayed in bed|could not go to school|felt very weak].
    [Mother|The doctor|The nurse] [came at {time}|brought some medicine|made a pot of tea|said that rest was the best medicine].
    ? A friend [sent a letter|brought {fruit+s}|came to visit|called on the telephone].
    [On {day}|The next day|After {number} days] everything was better, and [everybody was {happy}|it was time to go outside again|life was normal again].""",
    """On {day} {hero} cleaned the {room.1}.
    {he} [swept the floor|washed the windows|dusted the {furniture}|carried the {furniture} outside] and [threw away old papers|put the {book+s} on the shelf|folded the clothes].
    ? Behind the {furniture} {he} found [a coin|@ {lost_thing}|a photograph of {his} {relative}|a dead {insect}|an old letter].
    [After {distance}|At {time}] the {room.1} was [clean|bright and tidy|like new].
    {he} sat down [with a cup of {drink}|and ate some {bread}|on the {soft_place}] and [rested|{was} {happy}|listened to the radio].""",
]

STORIES = _FOOD + _PETS + _FAMILY
