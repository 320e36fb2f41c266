"""Write the golden files: `python tests/golden/make.py`, only when a change of ids is intended."""

import json
from pathlib import Path

from curr_ab import CurrAbTokenizer

HERE = Path(__file__).parent


def golden_ids():
    """Ids and decoded text of every kind of input, for the family's separator and for CurrAb's."""
    pairs = [tuple(pair) for pair in json.loads((HERE / "pairs.json").read_text())]
    heavy, light = pairs[0]
    family, single_cls = CurrAbTokenizer(), CurrAbTokenizer(separator="<cls>")
    return {
        "pairs": family(pairs)["input_ids"],
        "heavy": family(heavy)["input_ids"],
        "light": family(light=light)["input_ids"],
        "masked": family("EVQ<mask>VES", "DI<mask><mask>")["input_ids"],
        "rare": family("XBZUO", "X")["input_ids"],
        "single_cls_pair": single_cls(heavy, light)["input_ids"],
        "single_cls_heavy": single_cls(heavy)["input_ids"],
        "single_cls_light": single_cls(light=light)["input_ids"],
        "decoded": family.decode(family(heavy, light)["input_ids"]),
    }


if __name__ == "__main__":
    text = json.dumps(golden_ids(), separators=(",", ":")).replace('],"', '],\n"').replace("],[", "],\n[")
    (HERE / "tokenizer_ids.json").write_text(text + "\n")
