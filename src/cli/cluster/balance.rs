//! Which slots go where: from several nodes to one (reshard), and between all so that each has its share (rebalance).

use super::slots::{SLOTS, Slots};

/// Chooses `wanted` slots out of those of several nodes, from each in proportion to what it has, from the biggest first.
/// Gives them with the place of their node in `sources`.
pub fn choose(sources: &[&Slots], wanted: usize) -> Vec<(usize, usize)> {
    let mut order: Vec<(usize, usize)> = sources
        .iter()
        .map(|slots| slots.len())
        .enumerate()
        .collect();
    order.sort_by_key(|&(_, len)| std::cmp::Reverse(len));
    let total: usize = order.iter().map(|(_, len)| len).sum();
    let mut chosen = Vec::new();
    for (turn, (source, len)) in order.into_iter().enumerate() {
        let part = f64::from(wanted as f32 / total as f32 * len as f32);
        let part = match turn {
            0 => part.ceil(),
            _ => part.floor(),
        };
        let part = (part as usize).min(wanted.saturating_sub(chosen.len()));
        chosen.extend(sources[source].iter().take(part).map(|slot| (source, slot)));
    }
    chosen
}

/// A node that takes part in a rebalance.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    pub slots: usize,
    pub weight: f32,
}

/// What a rebalance does; nodes are places in the list of shares.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many slots each has too many (or, below 0, too few), the poorest first.
    pub balances: Vec<(usize, i64)>,
    /// From, to, how many.
    pub moves: Vec<(usize, usize, usize)>,
}

/// Plans moves that give each node slots by its weight. `None`: nobody is off by more than `threshold` percent.
pub fn rebalance(shares: &[Share], threshold: f32) -> Option<Plan> {
    let total: f32 = shares.iter().map(|share| share.weight).sum();
    let expected = |share: &Share| (SLOTS as f32 / total * share.weight) as i64;
    if !shares
        .iter()
        .any(|share| is_off(share.slots, expected(share), threshold))
    {
        return None;
    }
    let balances = shares
        .iter()
        .map(|share| share.slots as i64 - expected(share));
    let mut balances: Vec<(usize, i64)> = balances.enumerate().collect();
    // Shares are rounded down: what is left goes to those who get something anyway.
    let mut left: i64 = balances.iter().map(|(_, balance)| balance).sum();
    while left > 0 && balances.iter().any(|(_, balance)| *balance <= 0) {
        for (_, balance) in &mut balances {
            if *balance <= 0 && left > 0 {
                *balance -= 1;
                left -= 1;
            }
        }
    }
    balances.sort_by_key(|&(_, balance)| balance);
    let moves = moves(balances.clone());
    Some(Plan { balances, moves })
}

/// Whether a node is further from its share than allowed.
fn is_off(slots: usize, expected: i64, threshold: f32) -> bool {
    if threshold <= 0.0 {
        return false;
    }
    match slots {
        0 => expected > 1,
        slots => (100.0 - 100.0 * expected as f64 / slots as f64).abs() as f32 > threshold,
    }
}

/// From the richest to the poorest, then to the next.
fn moves(mut balances: Vec<(usize, i64)>) -> Vec<(usize, usize, usize)> {
    let mut moves = Vec::new();
    let (mut poor, mut rich) = (0, balances.len().saturating_sub(1));
    while poor < rich {
        let count = (-balances[poor].1).min(balances[rich].1).max(0);
        if count > 0 {
            moves.push((balances[rich].0, balances[poor].0, count as usize));
        }
        balances[poor].1 += count;
        balances[rich].1 -= count;
        let (done, spent) = (balances[poor].1 >= 0, balances[rich].1 <= 0);
        poor += usize::from(done);
        rich -= usize::from(spent && rich > 0);
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: usize, last: usize) -> Slots {
        (first..=last).collect()
    }

    #[test]
    fn slots_are_chosen_in_proportion() {
        let (small, big) = (range(0, 99), range(100, 399));
        let chosen = choose(&[&small, &big], 10);
        let of_big: Vec<usize> = chosen.iter().filter(|c| c.0 == 1).map(|c| c.1).collect();
        assert_eq!(of_big, (100..108).collect::<Vec<_>>());
        assert_eq!(chosen[8..], [(0, 0), (0, 1)]);
        // No more than there are.
        assert_eq!(choose(&[&small], 500).len(), 100);
        assert!(choose(&[&Slots::none()], 5).is_empty());
        assert!(choose(&[], 5).is_empty());
    }

    fn shares(list: &[(usize, f32)]) -> Vec<Share> {
        let share = |&(slots, weight)| Share { slots, weight };
        list.iter().map(share).collect()
    }

    #[test]
    fn a_new_node_gets_its_share() {
        let nodes = shares(&[(5461, 1.0), (5462, 1.0), (5461, 1.0), (0, 1.0)]);
        let plan = rebalance(&nodes, 2.0).unwrap();
        assert_eq!(plan.balances, [(3, -4096), (0, 1365), (2, 1365), (1, 1366)]);
        assert_eq!(plan.moves, [(1, 3, 1366), (2, 3, 1365), (0, 3, 1365)]);
    }

    #[test]
    fn what_is_nearly_even_stays() {
        let nodes = shares(&[(5461, 1.0), (5462, 1.0), (5461, 1.0)]);
        assert_eq!(rebalance(&nodes, 2.0), None);
        assert_eq!(rebalance(&[], 2.0), None);
    }

    #[test]
    fn weights_move_slots_and_sums_come_out() {
        let nodes = shares(&[(5461, 3.0), (5462, 1.5), (5461, 0.7)]);
        let plan = rebalance(&nodes, 2.0).unwrap();
        let mut after = [5461i64, 5462, 5461];
        for &(from, to, count) in &plan.moves {
            after[from] -= count as i64;
            after[to] += count as i64;
        }
        let wanted = [9453, 4726, 2205];
        assert!(
            after
                .iter()
                .zip(wanted)
                .all(|(have, want)| (have - want).abs() <= 2),
            "{after:?}"
        );
        // Weights that say nothing move nothing, and end.
        assert_eq!(
            rebalance(&shares(&[(9, 0.0), (9, 0.0)]), 2.0)
                .unwrap()
                .moves,
            []
        );
    }
}
