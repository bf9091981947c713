# SPDX-License-Identifier: Apache-2.0
"""Write `general.jsonl`: plain text on which a tuned model is checked for forgetting, in bits per byte.

    python samples/make_general.py [FOLDER]

Two thirds are held-out plain text of the pre-training generator (another seed), which the tiny base should know; one
third are everyday sentences written for this file, which it has never seen. Each part is judged by itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

from tiny_base_skills import plain

SEED = 424242
GENERATED = 100
EVERYDAY = """
The kettle was still warm when she came back from the garden.
A narrow road leads from the harbour up to the old stone house.
We counted the boats until the fog hid the last of them.
My grandmother keeps her buttons in a tin with a red lid.
The train was full, so we stood by the door all the way to the coast.
Nobody had told the new pupil that the library closes at noon.
It takes two people to carry the long table down the stairs.
After the storm the field was covered with small white stones.
He learned to cook by watching his neighbour through the open window.
The clock in the hall has been ten minutes slow for as long as I can remember.
Bread needs flour, water, salt, and more patience than most people have.
On clear nights you can see the lights of the town across the bay.
The dog sleeps under the bench and wakes when the postman comes.
She drew a map on the back of an envelope and gave it to the driver.
In autumn the whole street smells of apples and wood smoke.
They built the bridge in a single summer, and it has stood for eighty years.
If the ice holds, the children will skate to the island tomorrow.
The baker opens at six, but the first loaves are gone by seven.
A good ladder is worth more than a tall friend.
The cellar floods every March, so nothing is kept on the floor.
He wrote three letters and posted none of them.
The choir meets on Thursdays in the room above the bakery.
You can reach the lake on foot in an hour, or by bus in ten minutes.
The cat watched the snow as if it were a kind of bird.
Her first bicycle was blue and had one brake that worked.
There were plums on the ground and wasps on the plums.
The map was wrong, but the old man at the crossing was right.
We painted the kitchen yellow because the window faces north.
An owl lives in the church tower and hunts along the river.
The lesson ended early, and the class ran out into the rain.
He mends clocks on Sundays and sells honey the rest of the week.
The soup was too hot to eat and too good to wait for.
Two lemons, a jar of sugar and a cold night make a fine syrup.
The ferry leaves at nine unless the wind comes from the west.
She reads the last page first, so that she can enjoy the rest in peace.
The gate creaks, which is how we know that somebody is home.
A letter from the north takes a week, and longer in winter.
The garden is small, but there is room for one pear tree.
They sang until the candles were short and the jug was empty.
The path is steep at first and then follows the stream.
Snow fell on the washing, and nobody went out to fetch it.
The bus driver knows every passenger by name and stop.
He carries an umbrella on sunny days and forgets it on wet ones.
The museum keeps a room for things that nobody can explain.
My brother counts sheep for a living, and he never falls asleep.
The radio only works when it stands on the fridge.
A fence keeps the goats out of the lettuce, most of the time.
The tailor measured twice and still cut one sleeve too short.
At low tide you can walk to the rock and look into the pools.
The school has two teachers, nine pupils, and one very old piano.
""".strip().splitlines()


def make_texts() -> list[dict[str, str]]:
    """Generated and everyday texts with their ids."""
    r = Random(SEED)
    texts = [("known", plain(r).system or "") for _ in range(GENERATED)] + [("other", text) for text in EVERYDAY]
    return [{"id": f"general-{number:03d}", "text": text, "part": part} for number, (part, text) in enumerate(texts, 1)]


def main() -> None:
    """Write the file beside this script, or into the folder given."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    (folder / "general.jsonl").write_bytes("".join(json.dumps(value) + "\n" for value in make_texts()).encode())


if __name__ == "__main__":
    main()
