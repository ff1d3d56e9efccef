"""Trains Watchpost's own models on scenes that Watchpost renders: export, people, violence, onnx, evaluate, draw.

    python3 main.py export   --watchpost ../../target/release/watchpost --work work
    python3 main.py people   --work work --minutes 25
    python3 main.py violence --work work --minutes 25
    python3 main.py onnx     --work work
    python3 main.py evaluate --work work --purpose test

README.md says what to install and what comes out.
"""

import argparse
import json
from pathlib import Path

import scenes

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent


def seeds_of(text):
    """`1-40` or `3,7` to numbers."""
    numbers = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        numbers += range(int(low), int(high or low) + 1)
    return numbers


def export(options):
    given = {"train": options.train, "valid": options.valid, "test": options.test}
    allowed = {"train": scenes.TRAIN_SEEDS, "valid": scenes.VALID_SEEDS, "test": scenes.TEST_SEEDS}
    for purpose, text in given.items():
        seeds = seeds_of(text) if text else []
        if wrong := [seed for seed in seeds if seed not in allowed[purpose]]:
            raise SystemExit(f"seeds {wrong} are not for {purpose}: {allowed[purpose]}")
        every = options.every if purpose == "train" else 25
        scenes.make_all(options.watchpost, options.work, seeds, purpose, every, options.jobs)


def train(options):
    import torch

    import people
    import violence

    torch.set_num_threads(options.threads)
    module = people if options.command == "people" else violence
    module.train(options.work, options.work, options.minutes, options.start, seed=options.seed, rate=options.rate)
    if options.command == "violence":
        violence.calibrate(options.work, options.work / "violence.pt")


def onnx(options):
    import people
    import violence

    for module, name in ((people, "people"), (violence, "violence")):
        weights = options.work / f"{name}.pt"
        if not weights.exists():
            print(f"no {weights}: skipped")
            continue
        module.to_onnx(weights, MODELS / name / "model.onnx")
        print(f"wrote {MODELS / name / 'model.onnx'}")


def evaluate(options):
    import evaluate as figures

    result = {}
    if options.model in ("people", "both"):
        file = MODELS / "people" / "model.onnx"
        result["people"] = figures.people(file, options.work, options.purpose, options.limit)
        result["people"]["ms_one_thread"] = figures.speed(file, (1, 3, *scenes.PEOPLE_SIZE[::-1]))
    if options.model in ("violence", "both"):
        file = MODELS / "violence" / "model.onnx"
        result["violence"] = figures.violence(file, options.work, options.purpose, options.limit)
        result["violence"]["ms_one_thread"] = figures.speed(file, (1, 16, 1, *scenes.CLIP_SIZE[::-1]))
    print(json.dumps(result, indent=2))


def draw(options):
    import evaluate as figures

    figures.draw(MODELS / "people" / "model.onnx", options.work, options.purpose, options.work / "found.png")
    print(options.work / "found.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    added = {}
    for name, what in (("export", export), ("people", train), ("violence", train), ("onnx", onnx),
                       ("evaluate", evaluate), ("draw", draw)):
        added[name] = commands.add_parser(name)
        added[name].set_defaults(what=what)
        added[name].add_argument("--work", type=Path, default=HERE / "work", help="folder for scenes and weights")
    added["export"].add_argument("--watchpost", type=Path, default=MODELS.parent / "target/release/watchpost")
    added["export"].add_argument("--train", default="1-150", help="seeds, of 1 to 999")
    added["export"].add_argument("--valid", default="2001-2012", help="seeds, of 2001 to 2030")
    added["export"].add_argument("--test", default="3001-3020", help="seeds, of 3001 to 3020")
    added["export"].add_argument("--every", type=int, default=13, help="frames from one detector picture to the next")
    added["export"].add_argument("--jobs", type=int, default=2)
    for name in ("people", "violence"):
        added[name].add_argument("--minutes", type=float, default=25.0)
        added[name].add_argument("--start", type=Path, help="weights to go on from")
        added[name].add_argument("--threads", type=int, default=1)
        added[name].add_argument("--seed", type=int, default=0)
        added[name].add_argument("--rate", type=float, default=2.5e-3, help="highest learning rate")
    for name in ("evaluate", "draw"):
        added[name].add_argument("--purpose", choices=["train", "valid", "test"], default="test")
    added["evaluate"].add_argument("--model", choices=["people", "violence", "both"], default="both")
    added["evaluate"].add_argument("--limit", type=int, help="only so many scenes")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.what(options)


if __name__ == "__main__":
    main()
