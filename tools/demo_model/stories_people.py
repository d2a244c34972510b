# ruff: noqa: E501 - one line of a template is one slot of a story
"""Story templates of people: school, work, town, talk and small tales."""

from __future__ import annotations

__all__ = ["STORIES"]

_SCHOOL = [
    """On [{day}|{day} morning|Tuesday morning|Friday morning|the first day of school|the last day before the holidays], the [teacher|new teacher|{subject} teacher|head teacher] [told the class a story|was {sad}|brought @ {school_thing} to the classroom|was late|asked a difficult question|opened the windows|wrote a long word on the board|showed the pupils a map of {country}|wanted to talk about {subject}|gave back the homework].
    [The pupils|The children|The boys and girls] [listened|laughed|were surprised|took out their pens|were very quiet|wrote everything down].
    "[who knows the answer|who can help me|what do you see here|are there any questions]?" asked the teacher.
    {boy.1} [put up his hand|looked out of the window|whispered something to {girl.2}|did not know what to say].
    ? {girl.2} [read @ {book} aloud|went to the board|drew @ {wild_animal}|counted to {number}].
    [Then the bell rang|At {time} the lesson was over], and [everybody ran outside|they ate their lunch|they played {sport}|the room was empty].""",
    """{hero} [<like>|does not like|<love>] {subject.1}[| and {subject}], but {subject.2} is [difficult|more fun|boring|even better].
    [The teacher of {subject.1}|The new teacher] is {nature} and [tells funny stories|gives a lot of homework|comes from {country}|knows everything about {zoo_animal+s}].
    [Yesterday|Last {day}|Last week] the class [wrote a test|learned a song|went to the museum|read about {country}|painted {flower+s}].
    ? {hero} [had forgotten {his} {school_thing}|made {number} mistakes|got the best mark|sat next to {girl}].
    [After school|In the break|At {time}] everybody plays {sport} [in the yard|near the {town_place}].""",
    """{hero} {was} {sad} because there was a [test|lesson] in {subject.1} on {day}.
    {he} [learned|studied|read {his} notes] [every evening|until {time}|in the {room}], and {his} {relative.1} helped.
    "[you can do it|do not be afraid|just read it once more]," [said {his} {relative.1}|were the last words in the morning].
    In the classroom it was quiet, and [the first question was easy|the clock was very loud|everybody looked at the paper].
    [A week later|On {day}] the teacher [smiled|gave back the papers], and {hero} had [only {number} mistakes|the best paper|a good mark].
    {he} ran home and [told everybody|hung it on the wall|ate a big piece of {cake}].""",
    """[Our|The|Their|The new] school [is|stands] near the {town_place} and has {number} rooms and a [{size}|{colour}] yard.
    [In the morning|At {time}] the {crowd} come by {transport}, by bicycle or on foot.
    [In the first lesson|After the break] they learn {subject} and {subject}.
    ? There is a room for {subject} with @ {zoo_animal} of paper on the wall.
    At lunch they eat {bowl_food} or {plate_food}.
    [Most of them like it there|On {day} they play {sport}|In {month} they will put on a play].""",
]

_WORK = [
    """The {job.1} [gets up early|gets up at {time}|works late|is busy|is {sad}|is {happy}] because [there is a lot of work|the {crowd} are waiting|the {town_place} opens at {time}|the {transport} leaves at {time}|the day is long|{day} is market day].
    The baker [gets up in the night|works at night|starts at {time}|bakes {bread}] because [the {bread} must be ready in the morning|people want {bread} for breakfast|the oven must be hot|the shop opens at {time}].
    [First|In the morning], he [lights the oven|takes flour and water|drinks a cup of {drink}|opens the door], [then|and then] he [makes the dough|sweeps the floor|talks to the first guests|sells {bread}].
    [The first customer|The {job} from across the street|A little girl] always buys {bread} and {cake}.
    [At noon he is tired|In the afternoon he sleeps|He likes his work|He would not want another job].""",
    """{his} {relative.1} [is|works as] @ {job.2} [in a {town_place.3}|in {far_place}|near the {town_place.3}].
    Every [day|{day}|morning] [the work begins at {time}|the {transport} leaves at {time}], and [there is always a lot to do|nobody comes home before {time}].
    A {job.2} must be {nature} and {nature}.
    ? [Last week|On {day}] [the {machine} did not work|a {zoo_animal} ran away from the zoo|the mayor came to visit|there was a fire near the {town_place}].
    [{hero} <want> to be @ {job.4} one day|{hero} <think> that @ {job.4} has a better life|{hero} would rather be @ {job.4}].""",
    """The {machine.1} was broken, and {hero} did not know [what to do|why|how to repair it].
    {he} [called|asked for] @ {job.1}, who came at {time} with a [big|heavy|little] box of tools.
    The {job.1} [looked at it from all sides|opened the back|listened carefully|took out a screw] and said, "[it is only dust|this part is too old|somebody has put a coin in it|it needs oil]."
    [After {distance}|At {time}] the {machine.1} worked [again|better than before|like new].
    {he} paid {money} and [said thank you|made some {drink} for the {job.1}|{was} {happy}].""",
    """{hero} [works|worked|had a job] in a [small|big|busy|quiet|modern] office [near the {town_place}|on the top floor|in {far_place}].
    On {day} {he} [wrote letters|answered the telephone|talked to the boss|had a meeting] until {time}.
    ? At noon {he} ate {bread} with {filling} and drank {drink}.
    [The boss|A colleague] was {nature}, [but|and] [the computer was slow|the work was hard|there was never enough paper].
    After work {he} [met a friend|went to the {town_place}|played {sport}|took the {transport} home] and [forgot the office|was {happy}|talked about everything].""",
]

_TOWN = [
    """[{boy} and his {sibling.1}|{girl} and her {sibling.1}|{boy.2} and {girl.2}|Ben and his sister|Tom and his brother|Tom and his cousin|Anna and her sister] [walked|went|ran|cycled] to the [{town_place.1}|{nature_place.1}|{town_place.1}].
    [It was a {sky} {part_of_day}|The street was full of {crowd}|They wanted to be there at {time}|They had {money} in their pockets].
    On the way they [met @ {job}|saw @ {dogkind}|found @ {lost_thing}|bought {bread}|sang a song].
    ? "[are we late|do you know the way|shall we take the {transport}]?" asked the {sibling.1}.
    [When they arrived|At last], [it was closed|their friends were waiting|there was a long line of {crowd}|the band began to play].
    [So they went home again|They stayed until {time}|They had a lot of fun|They ate {fruit+s} and looked at the {crowd}].""",
    """{hero} [went|walked] into the {shop} to buy @ {clothing.1} for [the winter|a wedding|the party|{his} {relative}].
    The [seller|shopkeeper] showed {him} @ {colour.1} one and @ {colour.2} one.
    "[do you have it in {colour.3}|how much is the {colour.1} one|is there a larger one]?" {hero} asked.
    "[yes, of course|I am sorry, it is the last one|only {money}]," [was the answer|said the shopkeeper].
    The {colour.1} {clothing.1} was too [small|big|long|expensive], so {he} [took|bought] the {colour.2} one.
    {he} wore it [on {day}|to the {town_place}|for {number} years], and everybody [liked it|looked at it|said that it was {look}].""",
    """There [is|was] a concert in the {town_place.1} on {day}.
    [A man played the {instrument.1}|A girl played the {instrument.1}|{hero} played the {instrument.1}|An old lady played the {instrument.1}], [and|while] [the {crowd} listened|a choir sang|the {crowd} danced].
    The music was [soft and {sad}|loud and merry|slow at first|very old].
    ? In the middle of it [a telephone rang|the lights went out|a dog barked|a baby cried], [but nobody was angry|and everybody laughed].
    [In the end|At {time}] the {crowd} [clapped for {distance}|threw {flower+s}|wanted to hear more].""",
    """[On {day}|In {month}|Yesterday] the [{crowd}|class|whole family] [visited|went to] the zoo.
    They saw {zoo_animal+s}, {zoo_animal+s} and @ {size} {zoo_animal.1}.
    The {zoo_animal.1} [slept in the sun|ate {fruit+s}|looked {sad}|stole the hat of @ {job}|drank a lot of water].
    ? A keeper [gave fish to the {zoo_animal+s}|told them where {zoo_animal+s} live|cleaned the cage].
    [{boy}|{girl}|The smallest child] [was afraid of the {zoo_animal}|wanted to take the {zoo_animal.1} home|asked a lot of questions].
    [At {time} the zoo closed|Then they ate ice cream], and [they took the {transport} home|everybody was tired and {happy}].""",
    """[{hero} played|The boys played|The girls played|Two teams played] {sport.1} [in the park|on {day}|near the {nature_place}|against the team from {far_place}].
    [The first half was slow|The game was exciting|It was {sky}|The {crowd} shouted].
    Then [{boy.1}|{girl.1}] [made a mistake|got the ball|had a good idea|ran faster than all the others], and [everybody cheered|everything changed|the others were {sad}].
    [In the end|After {distance}] it was {number} to {number}.
    [They shook hands|They drank {drink}|The winners got @ {look} cup] and [went home|met again on {day}|talked about it for {distance}].""",
]

_TALK = [
    """"[where are you going|where do you go so early|where were you|where are they going|where is {petname}]?" [asked|said] [{girl.1}|{boy.1}|the {job}|{his} {parent}|the old man].
    "I [am going|want to go|must go|have to go] to the {town_place.2}," [answered|said|replied] [{boy.2}|{girl.2}|the boy|the girl]. "[I need @ {lost_thing}|my friend is waiting there|I have to buy {grocery}|there is a concert today|it opens at {time}]."
    "[may I come with you|can you bring me some {bread}|be back at {time}|take an umbrella, it may rain|it is closed on {day}]," [came the answer|was the reply].
    [So they went together|They walked through the {sky} streets|The door closed, and the house was quiet] and [talked about {sport}|met the {job} on the way|nobody was in a hurry].""",
    """"[what is your name|who are you]?" asked the {job.1}.
    "my name is {boy.1} {surname}, and I am {number} years old," said the boy.
    "[and where do you live|what do you want to be|why are you alone]?"
    "[I live near the {town_place}|I want to be @ {job}|I am waiting for my {relative}]," he said {gladly}.
    The {job.1} [smiled|laughed|gave him @ {fruit}] and [went on|said goodbye|showed him the way].""",
    """"[good morning|hello|good evening], {girl.1}," said {boy.1}. "[how are you|did you sleep well|what are you doing]?"
    "[I am fine, thank you|I am a little tired|I have {sick}|I am reading @ {book}]," she said. "[and you|how is your {relative}|would you like some {drink}]?"
    "[very well|I am {happy} today|everybody is {happy} at home]," he answered {gladly}.
    [Then they talked about|They spoke of] [the weather|{subject}|the new {job}|the trip to {holiday_place}] until [the bell rang|it was dark|the {transport} came|{time}].""",
    """"[can you help me|could you hold this|do you have a minute]?" [asked|said] {girl.1}. "I cannot [open the {furniture}|carry this {furniture}|find my {lost_thing}|reach the {book}]."
    "[of course|just a moment|with pleasure|I will try]," said {boy.2} and [put down his {book}|stood up|came at once].
    [Together they did it|It was not easy|It took {distance}], and [then they had some {drink}|she was very {happy}|the {furniture} stood in the {room}].
    "[thank you, you are so {nature}|you are a real friend|next time I will help you]," she said.""",
    """{hero} [<dream> of|<think> about|often <talk> about] @ [{look}|{size}] [house|boat|garden|farm] near the {nature_place.1}.
    There would be @ {tree}, {number} {farm_animal+s} and @ {dogkind} called {petname}.
    In {season} {he} would [swim every day|pick {fruit+s}|sit by the fire|plant {flower+s}] and [read {book+s}|invite all {his} friends|play the {instrument}].
    [But first {he} <have> to work|It costs a lot of money|Maybe it will come true one day|{his} {relative} only laughs about it].""",
    """My [name is|friends call me] {girl}, and I [am {number} years old|live in {far_place}|come from {country}].
    I have [a brother|two sisters|a cousin] who [plays the {instrument}|likes {subject}|works as @ {job}|is {number} years old].
    My favourite [food is {bowl_food}|animal is the {zoo_animal}|colour is {colour}|season is {season}], and I like to [play {sport}|read {book+s}|swim in the {nature_place}|collect stamps].
    On {day} I [go to the {town_place}|meet my friends|visit my {parent}|help in the garden].
    When I am older, I want to [be @ {job}|travel to {country}|live near the sea|have a lot of {pet+s}].""",
]

_TALES = [
    """Once upon a time there was @ [poor|{nature}|young|rich|old] {job.1} who lived [alone|with {number} {farm_animal+s}|with a {colour} cat] near a dark {nature_place.2}.
    One [day|night|{part_of_day}] [a stranger knocked at the door|a {wild_animal} spoke to him|he found @ {look} {lost_thing.3}|a king came to the village].
    "[give me something to eat|come with me|do not be afraid|help me to find my {lost_thing.3}], [and you will be rich|and I will tell you a secret|and you will never be hungry]," said the [voice|stranger|visitor].
    The {job.1} was {nature}, so he [shared his {bread}|put on his {clothing}|opened the door|followed the light].
    [They walked for {distance}|Behind the {nature_place.2} there was a castle|In the morning the visitor was gone], and [on the table lay {number} pieces of gold|the {flower+s} were made of silver|every wish came true].
    From that day on [nobody in the village was hungry|he was the happiest {job.1} in the land|he told the story to every child].""",
    """[A king|A queen|A prince|A princess] [had|owned] @ {colour} {farm_animal.1} that could [speak|sing|fly|dance].
    [The {crowd} came from {country}|People came from far away] to see it, but the {farm_animal.1} was {sad}.
    "[I want to go home|I am lonely here|let me go back to the {nature_place.2}]," it said one {part_of_day}.
    So [the gate was opened|they led it to the {nature_place.2}|the chain was taken off], and it [ran away|said thank you|was free].
    [Every year|Every {season}] it came back with [@ {flower}|@ {fruit} of gold|a song|news from the {nature_place.2}].""",
    """{hero} found an old [map|letter|key|box] {hiding_place.1}.
    [There was a {colour} cross on it|It was {look} and {look}|Nobody knew who had put it there].
    With {his} {relative.1} {he} went to the {nature_place.1}, and {they} dug [under @ {tree}|near a big stone|in the sand] for {distance}.
    [At last|Suddenly] {they} found [a box|a pot|a chest] full of [{sea_thing+s}|coins|letters|old {toy+s}].
    [It was not worth much|It was worth {money}|{they} gave it to the museum|{they} shared it], but [it was a great adventure|{they} were {happy}|nobody forgot that day].""",
]

STORIES = _SCHOOL + _WORK + _TOWN + _TALK + _TALES
