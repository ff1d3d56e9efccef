//! Optimal assignment with the right to leave anyone unassigned.
//!
//! In: a sparse list of allowed pairs, each with its gain (how much better than staying alone). Out: the
//! set of pairs, none sharing a row or a column, whose gains sum to the most. Owner: the caller keeps one
//! [`Assigner`] so that its buffers are reused. Nothing here fails; pairs with a gain of 0 or less, or
//! not a number, are never chosen.
//!
//! The pairs fall into connected components, most of them one row and one column; each larger component is
//! solved densely by shortest augmenting paths with potentials (Jonker and Volgenant, "A Shortest
//! Augmenting Path Algorithm for Dense and Sparse Linear Assignment Problems", Computing 38, 1987; in
//! the form of Crouse, "On Implementing 2D Rectangular Assignment Algorithms", IEEE TAES 2016).

/// An allowed pair and what choosing it gains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Row, such as a track.
    pub row: u32,
    /// Column, such as a detection.
    pub column: u32,
    /// Gain over leaving both alone; only positive gains count.
    pub gain: f32,
}

/// Solves assignments, reusing its buffers.
#[derive(Debug, Default)]
pub struct Assigner {
    parent: Vec<u32>,
    /// Pairs of each component, by root.
    sizes: Vec<u32>,
    order: Vec<(u32, u32)>,
    rows: Vec<u32>,
    columns: Vec<u32>,
    dense: Dense,
}

impl Assigner {
    /// Calls `chosen` with the index of each chosen pair, in no order. `rows` and `columns`: how many there are.
    pub fn solve(&mut self, pairs: &[Pair], rows: usize, columns: usize, mut chosen: impl FnMut(usize)) {
        // Union-find over rows (first) and columns.
        self.parent.clear();
        self.parent.extend(0..(rows + columns) as u32);
        for pair in pairs.iter().filter(|pair| pair.gain > 0.0) {
            let (a, b) = (self.root(pair.row), self.root(rows as u32 + pair.column));
            self.parent[a.max(b) as usize] = a.min(b);
        }
        self.sizes.clear();
        self.sizes.resize(rows + columns, 0);
        self.order.clear();
        for (index, pair) in pairs.iter().enumerate().filter(|(_, pair)| pair.gain > 0.0) {
            let root = self.root(pair.row);
            self.sizes[root as usize] += 1;
            self.order.push((root, index as u32));
        }
        let mut order = std::mem::take(&mut self.order);
        // Most pairs are alone, and need neither sorting nor a choice.
        order.retain(|(root, index)| {
            let alone = self.sizes[*root as usize] == 1;
            if alone {
                chosen(*index as usize);
            }
            !alone
        });
        order.sort_unstable();
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            self.component(pairs, group, &mut chosen);
        }
        self.order = order;
    }

    fn root(&mut self, mut node: u32) -> u32 {
        while self.parent[node as usize] != node {
            let above = self.parent[self.parent[node as usize] as usize];
            self.parent[node as usize] = above;
            node = above;
        }
        node
    }

    fn component(&mut self, pairs: &[Pair], group: &[(u32, u32)], chosen: &mut impl FnMut(usize)) {
        self.rows.clear();
        self.columns.clear();
        for (_, index) in group {
            self.rows.push(pairs[*index as usize].row);
            self.columns.push(pairs[*index as usize].column);
        }
        for list in [&mut self.rows, &mut self.columns] {
            list.sort_unstable();
            list.dedup();
        }
        let place = |list: &[u32], value: u32| list.partition_point(|x| *x < value);
        // The solver gives every row of its matrix a column, so rows must be the shorter side.
        let flip = self.rows.len() > self.columns.len();
        let (n, m) =
            if flip { (self.columns.len(), self.rows.len()) } else { (self.rows.len(), self.columns.len()) };
        self.dense.reset(n, m);
        for (_, index) in group {
            let pair = pairs[*index as usize];
            let (row, column) = (place(&self.rows, pair.row), place(&self.columns, pair.column));
            let (row, column) = if flip { (column, row) } else { (row, column) };
            self.dense.set(row, column, -pair.gain, *index);
        }
        self.dense.solve();
        for row in 0..n {
            if let Some(index) = self.dense.chosen(row) {
                chosen(index as usize);
            }
        }
    }
}

const NONE: u32 = u32::MAX;

/// A dense matrix of costs, `n` rows ≤ `m` columns, where 0 stands for "leave both alone".
#[derive(Debug, Default)]
struct Dense {
    n: usize,
    m: usize,
    cost: Vec<f32>,
    pair: Vec<u32>,
    row_potential: Vec<f32>,
    column_potential: Vec<f32>,
    distance: Vec<f32>,
    before: Vec<u32>,
    done: Vec<bool>,
    row_of: Vec<u32>,
    column_of: Vec<u32>,
}

impl Dense {
    fn reset(&mut self, n: usize, m: usize) {
        (self.n, self.m) = (n, m);
        fn fill<T: Clone>(list: &mut Vec<T>, len: usize, value: T) {
            list.clear();
            list.resize(len, value);
        }
        fill(&mut self.cost, n * m, 0.0);
        fill(&mut self.pair, n * m, NONE);
        fill(&mut self.row_potential, n, 0.0);
        fill(&mut self.column_potential, m, 0.0);
        fill(&mut self.distance, m, 0.0);
        fill(&mut self.before, m, NONE);
        fill(&mut self.done, m, false);
        fill(&mut self.row_of, m, NONE);
        fill(&mut self.column_of, n, NONE);
    }

    fn set(&mut self, row: usize, column: usize, cost: f32, pair: u32) {
        let at = row * self.m + column;
        if cost < self.cost[at] {
            self.cost[at] = cost;
            self.pair[at] = pair;
        }
    }

    fn chosen(&self, row: usize) -> Option<u32> {
        let pair = self.pair[row * self.m + self.column_of[row] as usize];
        (pair != NONE).then_some(pair)
    }

    fn solve(&mut self) {
        for start in 0..self.n {
            self.distance.fill(f32::INFINITY);
            self.done.fill(false);
            let (mut row, mut lowest) = (start, 0.0_f32);
            // Dijkstra over reduced costs until a free column is reached.
            let end = loop {
                let (mut next, mut best) = (0, f32::INFINITY);
                for column in 0..self.m {
                    if self.done[column] {
                        continue;
                    }
                    let through = lowest + self.cost[row * self.m + column]
                        - self.row_potential[row]
                        - self.column_potential[column];
                    if through < self.distance[column] {
                        self.distance[column] = through;
                        self.before[column] = row as u32;
                    }
                    if self.distance[column] < best {
                        best = self.distance[column];
                        next = column;
                    }
                }
                lowest = best;
                self.done[next] = true;
                if self.row_of[next] == NONE {
                    break next;
                }
                row = self.row_of[next] as usize;
            };
            self.row_potential[start] += lowest;
            for column in 0..self.m {
                if self.done[column] && column != end {
                    let shift = lowest - self.distance[column];
                    self.column_potential[column] -= shift;
                    self.row_potential[self.row_of[column] as usize] += shift;
                }
            }
            self.augment(start, end);
        }
    }

    fn augment(&mut self, start: usize, end: usize) {
        let mut column = end;
        loop {
            let row = self.before[column] as usize;
            self.row_of[column] = row as u32;
            let freed = std::mem::replace(&mut self.column_of[row], column as u32);
            if row == start {
                return;
            }
            column = freed as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use watchpost_plugin::testing::Rng;

    /// The best sum of gains by trying everything.
    fn brute(gains: &[Vec<f32>], row: usize, taken: &mut Vec<bool>) -> f32 {
        if row == gains.len() {
            return 0.0;
        }
        let mut best = brute(gains, row + 1, taken);
        for column in 0..gains[row].len() {
            if !taken[column] && gains[row][column] > 0.0 {
                taken[column] = true;
                best = best.max(gains[row][column] + brute(gains, row + 1, taken));
                taken[column] = false;
            }
        }
        best
    }

    fn check(gains: &[Vec<f32>], assigner: &mut Assigner) {
        let (rows, columns) = (gains.len(), gains.first().map_or(0, Vec::len));
        let mut pairs = Vec::new();
        for (row, line) in gains.iter().enumerate() {
            for (column, gain) in line.iter().enumerate() {
                if *gain != 0.0 {
                    pairs.push(Pair { row: row as u32, column: column as u32, gain: *gain });
                }
            }
        }
        let (mut sum, mut row_used, mut column_used) = (0.0, vec![false; rows], vec![false; columns]);
        assigner.solve(&pairs, rows, columns, |index| {
            let pair = pairs[index];
            assert!(pair.gain > 0.0);
            assert!(!std::mem::replace(&mut row_used[pair.row as usize], true), "row twice");
            assert!(!std::mem::replace(&mut column_used[pair.column as usize], true), "column twice");
            sum += pair.gain;
        });
        let best = brute(gains, 0, &mut vec![false; columns]);
        assert!((sum - best).abs() < 1e-3 * best.max(1.0), "found {sum}, best {best}: {gains:?}");
    }

    #[test]
    fn as_good_as_trying_everything() {
        let mut rng = Rng::new(11);
        let mut assigner = Assigner::default();
        for case in 0..3000 {
            let (rows, columns) = (1 + rng.below(6), 1 + rng.below(7));
            let density = [0.15, 0.4, 0.8, 1.0][case % 4];
            let gains: Vec<Vec<f32>> = (0..rows)
                .map(|_| {
                    (0..columns)
                        .map(|_| if rng.unit() < density { rng.unit() * 1.2 - 0.2 } else { 0.0 })
                        .collect()
                })
                .collect();
            check(&gains, &mut assigner);
        }
    }

    #[test]
    fn ties_and_equal_rows() {
        let mut assigner = Assigner::default();
        check(&vec![vec![0.5; 5]; 5], &mut assigner);
        check(&vec![vec![0.5; 2]; 6], &mut assigner);
        check(&[vec![1.0, 0.9], vec![0.9, 0.0]], &mut assigner);
    }

    #[test]
    fn nothing_to_assign() {
        let mut assigner = Assigner::default();
        assigner.solve(&[], 0, 0, |_| unreachable!());
        let bad = [Pair { row: 0, column: 0, gain: f32::NAN }, Pair { row: 0, column: 0, gain: -1.0 }];
        assigner.solve(&bad, 1, 1, |_| unreachable!());
    }
}
