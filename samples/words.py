# SPDX-License-Identifier: Apache-2.0
"""Word bank shared by the support-desk sample and the tiny base: single words and names only, never sentences.

Both generators draw from it, so the base knows the words of the sample while it has seen none of its sentences.
"""

from __future__ import annotations


def listed(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


NAMES: tuple[str, ...] = listed(
    """Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kara Leo Mia Noah Olga Paul Quinn Rosa Sam Tina Uma Victor
    Wendy Yara Zane Alice Boris Cora Derek Elsa Farid Gina Hugo Ivan Jana Karim Lena Marco Nina Omar Petra Ravi Sara
    Tomas Ursula Vera Walter Ximena Yusuf Zoe Amir Bella Carlos Dora Erik Fiona Goran Hanna Ines Jonas"""
)

CITIES: tuple[str, ...] = listed(
    """Paris London Berlin Madrid Rome Vienna Oslo Prague Lisbon Dublin Athens Warsaw Tokyo Cairo Lima Boston Denver
    Austin Geneva Zurich Milan Porto Seville Bergen Riga Tallinn Hamburg Lyon Turin Leeds"""
)

ITEMS: tuple[str, ...] = listed(
    """lamp chair desk phone laptop camera clock guitar bicycle jacket kettle mirror basket blanket candle hammer ladder
    pillow radio wallet tablet printer keyboard monitor speaker headset toaster blender heater fan vacuum backpack
    umbrella watch drill tent sofa shelf carpet oven freezer scooter helmet jumper sandals teapot notebook suitcase
    mixer router charger"""
)

COLOURS: tuple[str, ...] = listed("red blue green black white yellow purple orange silver brown grey pink")
DAYS: tuple[str, ...] = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS: tuple[str, ...] = listed(
    "January February March April May June July August September October November December"
)

TOPICS: dict[str, tuple[str, ...]] = {
    "animals": listed("cat dog horse cow sheep goat bird duck rabbit tiger zebra monkey"),
    "food": listed("bread cheese apple soup rice cake pizza egg salad butter honey noodle"),
    "sport": listed("tennis soccer hockey golf boxing rugby running chess goal match team coach"),
    "weather": listed("rain snow wind storm fog sun hail cloud thunder frost heat drizzle"),
    "music": listed("song piano violin drum band concert singer chorus melody trumpet flute choir"),
    "garden": listed("flower seed rake hedge lawn tree rose tulip soil fence pond weed"),
    "travel": listed("train airport hotel ticket passport luggage beach harbour bridge ferry tram map"),
    "school": listed("teacher pupil lesson pencil exam homework class library spelling chalk essay grade"),
    "health": listed("doctor nurse fever cough medicine tooth headache pill bandage dentist clinic vaccine"),
    "money": listed("bank loan salary coin budget savings stock tax rent debt fee price"),
}

CONTRACTIONS: tuple[tuple[str, str], ...] = (
    ("can't", "cannot"), ("won't", "will not"), ("don't", "do not"), ("isn't", "is not"), ("didn't", "did not"),
    ("i'm", "I am"), ("it's", "it is"), ("i've", "I have"), ("you're", "you are"), ("we'll", "we will"),
    ("doesn't", "does not"), ("haven't", "have not"), ("wasn't", "was not"), ("gonna", "going to"),
    ("wanna", "want to"), ("gotta", "have to"), ("pls", "please"), ("asap", "as soon as possible"),
    ("thx", "thank you"), ("u", "you"), ("kinda", "rather"), ("cuz", "because"), ("info", "information"),
    ("tmrw", "tomorrow"), ("couldn't", "could not"), ("i'd", "I would"), ("that's", "that is"), ("ain't", "is not"),
)  # fmt: skip

# Words of shops and help desks, then everyday words; the order carries no meaning.
PLAIN: tuple[str, ...] = tuple(
    dict.fromkeys(
        listed(
            """order refund parcel delivery courier invoice payment receipt charged charge card billing account login
        password email address name number customer product warranty repair replacement return exchange cancel change
        update check track tracking stock store shop price discount code voucher gift plan monthly yearly trial upgrade
        screen battery button cable power sound signal update error crash reset restart device setup manual lock locked
        broken scratched missing late damaged wrong faulty cracked dirty empty noisy slow weak loose torn arrived
        stopped working works sent shipped packed opened closed waiting waited paid bought ordered placed received asked
        wants needs likes keeps help support agent team desk queue label message request question reply answer reason
        problem issue note detail summary formal polite casual tone short sentence text context fact facts rule policy
        field fields value values key keys json format list choose pick read write rewrite turn make find give tell name
        what when where which who whose why how many long much does has have had was were will would can could should
        may must not never always only already still again soon today tomorrow yesterday week weeks month months year
        years day days hour hours minute minutes morning evening noon night before after until since within between from
        for with without about into onto over under near behind beside inside outside through against the this that
        these those there here his her their our your my its and but because while although however please thank thanks
        sorry hello dear kind regards hey hi well okay legal medical advice tax financial doctor lawyer weather homework
        recipe news politics sports password private data secret outside subject topic matter handle cover belongs
        specialist person office manager staff clerk driver owner buyer seller friend neighbour sister brother mother
        father uncle aunt child baby student farmer baker painter writer singer pilot sailor river mountain forest
        village town city street road house room kitchen garage office attic bedroom hallway cellar studio table window
        door wall floor roof box bag bottle cup plate bowl spoon knife fork paper pen book letter picture story game toy
        ball coat hat shoe shirt dress glove ring gold silver iron wood stone glass cotton wool leather water milk tea
        coffee juice sugar salt pepper meat fish fruit berry lemon pear plum carrot onion potato old new big small long
        round square heavy light dark bright clean cheap rich poor happy sad angry tired calm quiet loud fast quick
        early open free full ready safe warm cold hot dry wet soft hard sharp flat deep high low left right first second
        third last next best worst same other another each every both few many more most less some any all none one two
        three four five six seven eight nine ten twelve twenty thirty sixty ninety go come see look hear say talk walk
        run ride drive fly swim sit stand sleep wake eat drink cook wash cut draw paint play sing dance learn teach
        think know want need like love hope wish try use put take bring send carry hold drop throw catch push pull lift
        build fix break mend sell buy pay cost save spend lose win start stop begin end wait stay leave move live work
        went came saw took gave made found left lost sold kept told said met got put lives sits stands stays starts ends
        opens closes costs lasts leaves arrives weighs holds covers includes ships travels bytes kilos grams metres
        litres euros dollars percent pieces pages steps times points seats miles size weight height length
        width speed age date time place home line page part side top middle bottom corner front back north south east
        west spring summer autumn winter express standard premium basic starter family free local online mobile support
        version model brand type kind level state status active expired pending approved refused open closed done
        twice double extra wrongly instead also too very really quite almost maybe perhaps once ago late later ever
        am is are be been being do did done to of in on at by as if or no yes it he she they we you i me him them us
        an a so than then out up down off away contact call phone dial visit ask write click press hold unplug charge
        connect disconnect sync pair install download upload sign log enter type swipe tap scan print copy delete
        subscription basket checkout bonus points loyalty membership newsletter branch counter locker pickup doorstep
        neighbour box label seal package envelope pallet truck van depot customs border weight fragile"""
        )
    )
)
