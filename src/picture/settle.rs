//! Room for things that want to be at the same place: doors in a column, upright lines in lanes.

/// Where things of given heights stand in a column, in this order: as near as possible to where each
/// would like to be (its middle), `gap` apart, none above `top`. The least sum of squares, found by
/// pooling neighbours that would get into each other's way.
pub(super) fn settle(wishes: &[(i64, i64)], gap: i64, top: i64) -> Vec<i64> {
    // Without the heights of those above, the order is all that is asked.
    let mut above = Vec::with_capacity(wishes.len());
    let mut sum = 0;
    for &(_, height) in wishes {
        above.push(sum + height / 2);
        sum += height + gap;
    }
    // Neighbours that stand together: the sum of their wishes, and how many.
    let mut pools: Vec<(i64, i64)> = Vec::new();
    for (&(wish, _), &above) in wishes.iter().zip(&above) {
        let mut pool = (wish - above, 1);
        while let Some(&(sum, many)) = pools.last()
            && sum * pool.1 > pool.0 * many
        {
            pools.pop();
            pool = (sum + pool.0, many + pool.1);
        }
        pools.push(pool);
    }
    let starts = pools
        .iter()
        .flat_map(|&(sum, many)| (0..many).map(move |_| sum.div_euclid(many).max(top)));
    starts
        .zip(above)
        .map(|(start, above)| start + above)
        .collect()
}

/// For stretches of a column (from, to), a lane for each in which it meets no other: the longest
/// come first and lie leftmost, so that lines cross least. A stretch of no length needs none.
pub(super) fn lanes(stretches: &[(i64, i64)], gap: i64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..stretches.len()).collect();
    order.sort_by_key(|&place| stretches[place].0 - stretches[place].1);
    let mut taken: Vec<Vec<(i64, i64)>> = Vec::new();
    let mut lanes = vec![0; stretches.len()];
    for place in order {
        let (from, to) = stretches[place];
        if from == to {
            continue;
        }
        let apart = |&(other, end): &(i64, i64)| end + gap < from || to + gap < other;
        let free = taken.iter().position(|lane| lane.iter().all(apart));
        let lane = free.unwrap_or(taken.len());
        if lane == taken.len() {
            taken.push(Vec::new());
        }
        taken[lane].push((from, to));
        lanes[place] = lane;
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_room_stands_where_he_likes() {
        assert_eq!(settle(&[(50, 20), (100, 20)], 10, 0), [50, 100]);
        assert_eq!(settle(&[], 10, 0), [0; 0]);
    }

    #[test]
    fn who_has_none_shares_the_way() {
        // Both want 50: one goes up as far as the other goes down.
        assert_eq!(settle(&[(50, 20), (50, 20)], 10, 0), [35, 65]);
        // None above the top, and the others below it.
        assert_eq!(settle(&[(0, 20), (0, 20), (90, 20)], 10, 5), [15, 45, 90]);
    }

    #[test]
    fn stretches_that_meet_have_lanes_of_their_own() {
        let stretches = [(0, 10), (5, 40), (20, 30), (7, 7), (50, 60)];
        assert_eq!(lanes(&stretches, 2), [1, 0, 1, 0, 0]);
    }
}
