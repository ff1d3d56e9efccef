// What a detector found: of thousands of anchors, those whose score reaches the threshold.
//
// In: a detector's outputs (32-bit floats, in video memory) for a batch, in one of four layouts, and a `Sink`. Out:
// for each batch entry a number of candidates and a record for each, in no particular order:
//     [anchor, class, score (the bits of a 32-bit float), `values` 32-bit floats as the tensor holds them]
// The values are the anchor's box as the network gave it; the CPU makes a rectangle of them with the CPU lane's own
// code (postprocess/cuda.rs), sorts the candidates by anchor and goes on with NMS. So no exponential is taken here, and
// candidates, classes, scores and boxes are the CPU lane's bit for bit. `counters` must be 0 before. A counter above
// `capacity` says that records are missing; with room for all anchors that cannot be.
//
// Grid: x over the anchors, y over the batch entries; one thread looks at one anchor.
//
// Method: postprocess/yolox.rs, yolo.rs and nanodet.rs, which name the papers.
#include "common.h"

struct Sink {
    // One for each batch entry.
    int* counters;
    // `capacity` records of 3 + `values` words for each batch entry.
    unsigned* records;
    // For each class whether it is kept.
    const unsigned char* kept;
    int capacity;
    // Numbers that a box takes.
    int values;
    int classes;
    float threshold;
};

// Anchors one after another, each with all its values.
struct Rows {
    const float* output;
    int anchors;
    // Values of an anchor.
    int step;
};

// Values one after another, each for all anchors.
struct Columns {
    const float* output;
    int anchors;
    int reserved;
};

// The anchors of one stride: class scores in one place, distances in another.
struct Grid {
    const float* scores;
    const float* distances;
    // Floats from one anchor to the next, and from one batch entry to the next.
    int score_step, distance_step, score_entry, distance_entry;
    int anchors;
    int reserved;
};

struct Grids {
    Grid grids[8];
    int count;
    int reserved;
};

static_assert(sizeof(Sink) == 40 && sizeof(Rows) == 16 && sizeof(Columns) == 16, "as in gpu/params.rs");
static_assert(sizeof(Grid) == 40 && sizeof(Grids) == 328, "as in gpu/params.rs");

DEVICE unsigned bits_of(float value) {
    union {
        float number;
        unsigned bits;
    } word;
    word.number = value;
    return word.bits;
}

// Whether a score is one that the CPU lane's sink takes.
DEVICE bool passes(const Sink& sink, float score) { return finite(score) && score >= sink.threshold; }

// The strongest of the classes that are kept, the first of equals; -1: none is kept. `step`: floats between classes.
DEVICE int strongest(const Sink& sink, const float* scores, long long step) {
    int best = -1;
    float top = 0.0f;
    for (int index = 0; index < sink.classes; ++index) {
        const float score = scores[index * step];
        if ((best < 0 || score > top) && sink.kept[index]) {
            best = index;
            top = score;
        }
    }
    return best;
}

// Writes a record; value i of the box lies at `box[i × step]`.
DEVICE void push(const Sink& sink, int entry, int anchor, int label, float score, const float* box, long long step) {
    const int number = take(sink.counters + entry);
    if (number >= sink.capacity) {
        return;
    }
    const long long record = static_cast<long long>(entry) * sink.capacity + number;
    unsigned* words = sink.records + record * (3 + sink.values);
    words[0] = static_cast<unsigned>(anchor);
    words[1] = static_cast<unsigned>(label);
    words[2] = bits_of(score);
    for (int index = 0; index < sink.values; ++index) {
        words[3 + index] = bits_of(box[index * step]);
    }
}

// YOLOX and YOLO v5: anchors × (box of 4, objectness, class scores); the score is objectness × class score.
KERNEL3(boxes_rows, Rows, rows, Sink, sink, int, entries) {
    if (at.x >= rows.anchors || at.y >= entries || at.z > 0) {
        return;
    }
    const float* anchor = rows.output + (static_cast<long long>(at.y) * rows.anchors + at.x) * rows.step;
    // No class score is above 1, so most anchors end here.
    const float objectness = anchor[4];
    if (!(objectness >= sink.threshold)) {
        return;
    }
    const int label = strongest(sink, anchor + 5, 1);
    if (label >= 0 && passes(sink, anchor[5 + label] * objectness)) {
        push(sink, at.y, at.x, label, anchor[5 + label] * objectness, anchor, 1);
    }
}

// YOLO v8 to v12: (box of 4, class scores) × anchors.
KERNEL3(boxes_columns, Columns, columns, Sink, sink, int, entries) {
    if (at.x >= columns.anchors || at.y >= entries || at.z > 0) {
        return;
    }
    const long long step = columns.anchors;
    const float* box = columns.output + at.y * step * (4 + sink.classes) + at.x;
    // From the least float on, as the CPU lane does, so that no number at all never wins.
    int label = -1;
    float top = -3.40282347e38f;
    for (int index = 0; index < sink.classes; ++index) {
        const float score = box[(4 + index) * step];
        if (score > top && sink.kept[index]) {
            label = index;
            top = score;
        }
    }
    if (label >= 0 && passes(sink, top)) {
        push(sink, at.y, at.x, label, top, box, step);
    }
}

// YOLO end-to-end: objects × (two corners, score, class).
KERNEL3(boxes_corners, Rows, rows, Sink, sink, int, entries) {
    if (at.x >= rows.anchors || at.y >= entries || at.z > 0) {
        return;
    }
    const float* object = rows.output + (static_cast<long long>(at.y) * rows.anchors + at.x) * rows.step;
    const float score = object[4], label = object[5];
    if (passes(sink, score) && label >= 0.0f && label < float(sink.classes) && sink.kept[int(label)]) {
        push(sink, at.y, at.x, int(label), score, object, 1);
    }
}

// NanoDet: class scores and distances as distributions (4 × bins values), for each stride; x over all strides' anchors.
KERNEL3(boxes_grids, Grids, grids, Sink, sink, int, entries) {
    if (at.y >= entries || at.z > 0) {
        return;
    }
    int anchor = at.x;
    for (int index = 0; index < grids.count; ++index) {
        const Grid& grid = grids.grids[index];
        if (anchor >= grid.anchors) {
            anchor -= grid.anchors;
            continue;
        }
        const long long entry = at.y;
        const float* scores = grid.scores + entry * grid.score_entry + static_cast<long long>(anchor) * grid.score_step;
        const int label = strongest(sink, scores, 1);
        if (label >= 0 && passes(sink, scores[label])) {
            const float* box =
                grid.distances + entry * grid.distance_entry + static_cast<long long>(anchor) * grid.distance_step;
            push(sink, at.y, at.x, label, scores[label], box, 1);
        }
        return;
    }
}
