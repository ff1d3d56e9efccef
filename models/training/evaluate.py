"""What the ONNX files can do, on scenes of seeds that nothing was chosen by.

In: `models/*/model.onnx` and the scenes of a purpose. Out: figures as JSON, and pictures with what was found drawn in.
Runs the files themselves with ONNX Runtime on what `pictures.py` makes of NV12, with a decoder and non-maximum
suppression of its own.
"""

import time

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw

import scenes

CLIP_HOP = 4
THRESHOLD, NMS = 0.05, 0.65
MEAN, STD = 114.0, 64.0
FRAMES, FIGHT, CALM = 16, 0.5, 0.1


def session(path, threads=1):
    """An ONNX Runtime session on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def overlap(box, boxes):
    """IoU of one x, y, w, h with many."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:4], boxes[:, :2] + boxes[:, 2:4])
    inner = np.clip(high - low, 0, None).prod(1)
    return inner / (box[2] * box[3] + boxes[:, 2] * boxes[:, 3] - inner + 1e-9)


def find(raw):
    """One picture's raw output (A, 7) to rows class, x, y, w, h, score in input pixels, best first."""
    width, height = scenes.PEOPLE_SIZE
    rows, begin = [], 0
    for stride in (8, 16, 32):
        across, down = width // stride, height // stride
        cells = raw[begin : begin + across * down]
        begin += across * down
        column, row = np.tile(np.arange(across), down), np.repeat(np.arange(down), across)
        size = np.exp(cells[:, 2:4]) * stride
        centre = (cells[:, :2] + np.stack([column, row], 1)) * stride
        for kind in (0, 1):
            score = cells[:, 4] * cells[:, 5 + kind]
            good = score > THRESHOLD
            label = np.full((good.sum(), 1), kind, np.float32)
            rows.append(np.hstack([label, (centre - size / 2)[good], size[good], score[good, None]]))
    rows = np.vstack(rows)
    rows = rows[np.argsort(-rows[:, 5], kind="stable")]
    kept = []
    while len(rows):
        kept.append(rows[0])
        same = (rows[:, 0] == rows[0, 0]) & (overlap(rows[0, 1:5], rows[:, 1:5]) > NMS)
        rows = rows[~same]
    found = np.array(kept).reshape(-1, 6)
    edge = np.array([width, height], np.float32)
    low, high = np.clip(found[:, 1:3], 0, edge), np.clip(found[:, 1:3] + found[:, 3:5], 0, edge)
    found[:, 1:3], found[:, 3:5] = low, high - low
    return found


def average_precision(hits, total):
    """Area under the precision-recall curve (all points) from (score, hit) pairs."""
    if not total or not hits:
        return float("nan")
    hits = sorted(hits, key=lambda pair: -pair[0])
    true = np.cumsum([hit for _, hit in hits])
    precision = true / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0], true / total])
    return float((np.diff(recall) * precision).sum())


def match(found, truth, kind, least):
    """Greedy matching at IoU 0.5: (score, hit, IoU) of every found one that counts, and the hit rows of the truth.

    The truth's rows with less visible than `least` may be found or not.
    """
    ours = found[found[:, 0] == kind]
    real = truth[truth[:, 0] == kind]
    taken, rows = np.zeros(len(real), bool), []
    for row in ours:
        iou = overlap(row[1:5], real[:, 1:5]) if len(real) else np.zeros(0)
        iou = np.where(taken, -1, iou)
        clear = np.where(real[:, 5] >= least, iou, -1)
        pick = clear if len(clear) and clear.max() >= 0.5 else iou
        if len(pick) and pick.max() >= 0.5:
            best = int(pick.argmax())
            taken[best] = True
            if real[best, 5] >= least:
                rows.append((row[5], True, iou[best]))
        else:
            rows.append((row[5], False, 0.0))
    return rows, taken, real


def people(model, work, purpose, limit=None, score=0.35):
    """Figures of the detector."""
    run = session(model)
    hits, totals = {0: [], 1: []}, {0: 0, 1: 0}
    bands = {"0.2-0.5": [0, 0], "0.5-0.8": [0, 0], "0.8-1": [0, 0]}
    false, frames, overlaps, doubled = 0, 0, [], 0
    for scene in scenes.load(work, purpose, ["pictures", "objects"], limit):
        for picture, truth in zip(scene["pictures"], scene["objects"]):
            truth = truth[truth[:, 0] >= 0]
            tensor = (picture[None].astype(np.float32) - MEAN) / STD
            found = find(run.run(None, {"images": tensor})[0][0])
            frames += 1
            for kind in (0, 1):
                rows, _, real = match(found, truth, kind, 0.5)
                hits[kind] += [(s, h) for s, h, _ in rows]
                totals[kind] += int((real[:, 5] >= 0.5).sum())
                if kind == 0:
                    overlaps += [o for s, h, o in rows if h and s >= score]
            sure = found[found[:, 5] >= score]
            rows, taken, real = match(sure, truth, 0, 0.0)
            false += sum(not hit for _, hit, _ in rows)
            for row in sure[sure[:, 0] == 0]:
                doubled += int((overlap(row[1:5], sure[sure[:, 0] == 0][:, 1:5]) > 0.5).sum() > 1)
            for (low, high), band in zip(((0.2, 0.5), (0.5, 0.8), (0.8, 1.01)), bands.values()):
                inside = (real[:, 5] >= low) & (real[:, 5] < high)
                band[0] += int((taken & inside).sum())
                band[1] += int(inside.sum())
    return {
        "frames": frames,
        "people": totals[0],
        "balls": totals[1],
        "ap50_person": average_precision(hits[0], totals[0]),
        "ap50_ball": average_precision(hits[1], totals[1]),
        "mean_iou_person": float(np.mean(overlaps)),
        "share_iou_over_0.8": float(np.mean(np.array(overlaps) > 0.8)),
        f"false_people_a_frame_at_{score}": false / frames,
        f"recall_by_visible_share_at_{score}": {k: a / max(b, 1) for k, (a, b) in bands.items()},
        f"boxes_that_overlap_another_by_half_a_frame_at_{score}": doubled / frames,
    }


def area_under_curve(values, labels):
    """Area under the ROC curve, by ranks, ties counted half."""
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    _, inverse, counts = np.unique(values[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks[order] = (ends - (counts - 1) / 2)[inverse]
    positive = labels == 1
    n, m = positive.sum(), (~positive).sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def violence(model, work, purpose, limit=None):
    """Figures of the clip model, over windows as the daemon takes them."""
    run = session(model)
    values, labels, false_runs, delays, missed, minutes, fooled, after = [], [], 0, [], 0, 0.0, [], []
    for scene in scenes.load(work, purpose, ["clip", "clip_objects", "clip_pts"], limit):
        fighting = (scene["clip_objects"][:, :, 7] > 0.5).any(1)
        pts = scene["clip_pts"]
        minutes += len(pts) / scenes.CLIP_FPS / 60
        begins = range(0, len(pts) - FRAMES + 1, CLIP_HOP)
        chances = []
        for begin in begins:
            clip = (scene["clip"][begin : begin + FRAMES].astype(np.float32) - MEAN) / STD
            out = run.run(None, {"clip": clip[None, :, None]})[0][0]
            chances.append(1 / (1 + np.exp(out[0] - out[1])))
            share = fighting[begin : begin + FRAMES].mean()
            values.append(chances[-1])
            labels.append(1 if share >= FIGHT else 0 if share < CALM else -1)
        ends = np.array([pts[begin + FRAMES - 1] for begin in begins])
        chances = np.array(chances)
        calm = np.array(labels[-len(chances) :]) == 0
        false = calm & (chances > 0.5)
        false_runs += int((false & ~np.concatenate([[False], false[:-1]])).sum())
        if false.any():
            fooled.append({"seed": scene["seed"], "ends": [round(float(e), 1) for e in ends[false]]})
        for fight in scene["header"]["fights"]:
            inside = (ends >= fight["begin"]) & (ends <= fight["end"] + 0.5) & (chances > 0.5)
            if inside.any():
                delays.append(float(ends[inside][0] - fight["begin"]))
                later = (ends > fight["end"]) & (ends < fight["end"] + 4) & (chances > 0.5)
                after.append(float(ends[later][-1] - fight["end"]) if later.any() else 0.0)
            else:
                missed += 1
    values, labels = np.array(values), np.array(labels)
    judged = labels >= 0
    return {
        "windows": len(values),
        "fight_windows": int((labels == 1).sum()),
        "calm_windows": int((labels == 0).sum()),
        "auc": area_under_curve(values[judged], labels[judged]),
        "fight_windows_over_0.5": float((values[labels == 1] > 0.5).mean()),
        "calm_windows_over_0.5": float((values[labels == 0] > 0.5).mean()),
        "calm_windows_over_0.3": float((values[labels == 0] > 0.3).mean()),
        "false_alarms_of_a_single_threshold_a_minute": false_runs / minutes,
        "fights": len(delays) + missed,
        "fights_never_over_0.5": missed,
        "seconds_from_begin_to_first_window_over_0.5": {
            "median": float(np.median(delays)) if delays else None,
            "worst": max(delays, default=None),
        },
        "seconds_from_end_to_last_window_over_0.5": float(np.median(after)) if after else None,
        "fooled": fooled,
    }


def speed(model, shape):
    """Milliseconds of processor time a run on one thread, the median of 30: other work on the machine counts little."""
    run = session(model)
    tensor = np.zeros(shape, np.float32)
    name, times = run.get_inputs()[0].name, []
    for _ in range(33):
        begin = time.process_time()
        run.run(None, {name: tensor})
        times.append((time.process_time() - begin) * 1e3)
    return float(np.median(times[3:]))


def draw(model, work, purpose, out, count=24):
    """A sheet of pictures: found in green (person) and yellow (ball) with scores, the truth in red."""
    run = session(model)
    loaded = scenes.load(work, purpose, ["pictures", "objects"])
    rng = np.random.default_rng(1)
    tiles = []
    for _ in range(count):
        scene = loaded[rng.integers(len(loaded))]
        index = rng.integers(len(scene["pictures"]))
        picture, truth = scene["pictures"][index], scene["objects"][index]
        found = find(run.run(None, {"images": (picture[None].astype(np.float32) - MEAN) / STD})[0][0])
        tile = Image.fromarray(picture.transpose(1, 2, 0)).resize((640, 384))
        pen = ImageDraw.Draw(tile)
        for row in truth[truth[:, 0] >= 0]:
            x, y, w, h = row[1:5] * 2
            pen.rectangle([x, y, x + w, y + h], outline="red")
            pen.text((x + 2, y + h - 11), f"{row[5]:.2f}", fill="red")
        for row in found[found[:, 5] >= 0.35]:
            x, y, w, h = row[1:5] * 2
            pen.rectangle([x, y, x + w, y + h], outline="lime" if row[0] == 0 else "yellow")
            pen.text((x + 2, y + 1), f"{row[5]:.2f}", fill="white")
        tiles.append(tile)
    sheet = Image.new("RGB", (640 * 3, 384 * ((count + 2) // 3)))
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % 3 * 640, index // 3 * 384))
    sheet.save(out)
