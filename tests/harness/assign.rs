//! Optimal assignment, for scoring.
//!
//! In: a matrix of gains. Out: pairs whose gains sum to the most. Owned by [`super::score`]; nothing fails.

/// The pairs (row, column) with positive gain whose gains sum to the most: Kuhn's Hungarian method in the
/// O(n³) form with potentials. Rows may be more or fewer than columns.
#[must_use]
pub fn assign(gains: &[Vec<f64>]) -> Vec<(usize, usize)> {
    let rows = gains.len();
    let columns = gains.iter().map(Vec::len).max().unwrap_or(0);
    let n = rows.max(columns);
    // Square, 1-based, as costs; what is missing costs nothing and gains nothing.
    let cost = |i: usize, j: usize| gains.get(i - 1).and_then(|r| r.get(j - 1)).map_or(0.0, |g| -g.max(0.0));
    let (mut u, mut v) = (vec![0.0; n + 1], vec![0.0; n + 1]);
    let (mut owner, mut way) = (vec![0_usize; n + 1], vec![0_usize; n + 1]);
    for i in 1..=n {
        owner[0] = i;
        let mut j0 = 0;
        let mut least = vec![f64::INFINITY; n + 1];
        let mut used = vec![false; n + 1];
        while {
            used[j0] = true;
            let (i0, mut delta, mut j1) = (owner[j0], f64::INFINITY, 0);
            for j in 1..=n {
                if !used[j] {
                    let reduced = cost(i0, j) - u[i0] - v[j];
                    if reduced < least[j] {
                        least[j] = reduced;
                        way[j] = j0;
                    }
                    if least[j] < delta {
                        delta = least[j];
                        j1 = j;
                    }
                }
            }
            for j in 0..=n {
                if used[j] {
                    u[owner[j]] += delta;
                    v[j] -= delta;
                } else {
                    least[j] -= delta;
                }
            }
            j0 = j1;
            owner[j0] != 0
        } {}
        while j0 != 0 {
            let j1 = way[j0];
            owner[j0] = owner[j1];
            j0 = j1;
        }
    }
    (1..=n).filter(|j| cost(owner[*j], *j) < 0.0).map(|j| (owner[j] - 1, j - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::assign;

    #[test]
    fn the_best_sum_wins_over_the_best_pair() {
        let mut pairs = assign(&[vec![10.0, 9.0], vec![9.0, 1.0]]);
        pairs.sort_unstable();
        assert_eq!(pairs, [(0, 1), (1, 0)]);
        assert_eq!(assign(&[vec![0.0, 3.0, 2.0]]), [(0, 1)]);
        assert!(assign(&[]).is_empty());
    }

    #[test]
    fn agrees_with_trying_every_permutation() {
        let mut state = 7_u64;
        for _ in 0..50 {
            let gains: Vec<Vec<f64>> = (0..4)
                .map(|_| {
                    let mut next = || {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        ((state >> 40) % 20) as f64
                    };
                    (0..4).map(|_| next()).collect()
                })
                .collect();
            let found: f64 = assign(&gains).iter().map(|(i, j)| gains[*i][*j]).sum();
            let mut best = 0.0_f64;
            for code in 0..256_usize {
                let order = [code & 3, code >> 2 & 3, code >> 4 & 3, code >> 6 & 3];
                if (0..4).all(|k| order.contains(&k)) {
                    best = best.max(order.iter().enumerate().map(|(i, j)| gains[i][*j]).sum());
                }
            }
            assert!((found - best).abs() < 1e-9, "{found} {best} {gains:?}");
        }
    }
}
