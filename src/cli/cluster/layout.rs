//! How a new cluster is laid out: which nodes become masters, who has which slots, and who replicates whom.
//!
//! Masters are taken from the hosts in turn, and their replicas from other hosts where there are any, so that a host that
//! fails takes as little as possible with it. How well that worked is a score; where it is not perfect, replicas are
//! swapped by lot as long as it does not become worse.

use super::slots::SLOTS;
use crate::base::rng::Rng;

/// A replica on its master's host weighs so much more than two replicas of one master on one host.
const WITH_MASTER: usize = 10_000;
/// Swaps that are tried for each node.
const SWAPS: usize = 500;

/// The plan; nodes are numbers, in the order in which they were given.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Each with the first and the last of its slots.
    pub masters: Vec<(usize, usize, usize)>,
    /// Each with its master, in the order in which they were found.
    pub replicas: Vec<(usize, usize)>,
    /// From here on they are those that were left over.
    pub extra_from: Option<usize>,
}

/// Lays out a cluster of the nodes with these hosts. Gives `None` if there would be no master.
pub fn layout(hosts: &[&str], replicas: usize) -> Option<Layout> {
    let masters_len = hosts.len() / (replicas.checked_add(1)?);
    let mut rest = interleaved(hosts);
    let masters = rest.get(..masters_len).filter(|m| !m.is_empty())?.to_vec();
    rest.drain(..masters_len);
    if !rest.is_empty() {
        // (That often makes for a better start.)
        rest.rotate_left(1);
    }
    let mut layout = Layout {
        masters: share(&masters),
        replicas: Vec::new(),
        extra_from: None,
    };
    for &master in &masters {
        for _ in 0..replicas {
            layout.add_replica(&mut rest, master, hosts);
        }
    }
    if !rest.is_empty() {
        layout.extra_from = Some(layout.replicas.len());
        for &master in &masters {
            layout.add_replica(&mut rest, master, hosts);
        }
    }
    Some(layout)
}

impl Layout {
    fn add_replica(&mut self, rest: &mut Vec<usize>, master: usize, hosts: &[&str]) {
        let elsewhere = rest.iter().position(|&n| hosts[n] != hosts[master]);
        if !rest.is_empty() {
            let replica = rest.remove(elsewhere.unwrap_or(0));
            self.replicas.push((replica, master));
        }
    }
}

/// The nodes, one of each host in turn.
fn interleaved(hosts: &[&str]) -> Vec<usize> {
    let mut by_host: Vec<Vec<usize>> = Vec::new();
    for (node, host) in hosts.iter().enumerate() {
        match by_host.iter_mut().find(|nodes| hosts[nodes[0]] == *host) {
            Some(nodes) => nodes.push(node),
            None => by_host.push(vec![node]),
        }
    }
    (0..hosts.len())
        .flat_map(|turn| by_host.iter().filter_map(move |nodes| nodes.get(turn)))
        .copied()
        .collect()
}

/// Equal shares of the slots, rounded as Redis's client rounds them.
fn share(masters: &[usize]) -> Vec<(usize, usize, usize)> {
    let each = SLOTS as f32 / masters.len() as f32;
    let (mut first, mut cursor) = (0, 0.0f32);
    let share = masters.iter().enumerate().map(|(at, &master)| {
        let mut last = f64::from(cursor + each - 1.0).round() as usize;
        if last > SLOTS || at + 1 == masters.len() {
            last = SLOTS - 1;
        }
        let range = (first, last.max(first));
        first = range.1 + 1;
        cursor += each;
        (master, range.0, range.1)
    });
    share.collect()
}

/// How bad it is, and a replica of each place that makes it so. `master_of` has the master of each replica.
pub fn score(hosts: &[&str], master_of: &[Option<usize>]) -> (usize, Vec<usize>) {
    let (mut score, mut offenders) = (0, Vec::new());
    let mut seen: Vec<(&str, usize)> = Vec::new();
    for (node, host) in hosts.iter().enumerate() {
        let master = master_of[node].unwrap_or(node);
        if seen.contains(&(host, master)) {
            continue;
        }
        seen.push((host, master));
        let with_master = hosts[master] == *host;
        let mut replicas = (0..hosts.len())
            .filter(|&n| hosts[n] == *host && master_of[n] == Some(master))
            .peekable();
        let offender = replicas.peek().copied();
        let added = match (replicas.count(), with_master) {
            (n, true) => WITH_MASTER * n,
            (n, false) if n > 1 => n,
            _ => 0,
        };
        if added > 0 {
            score += added;
            offenders.extend(offender);
        }
    }
    (score, offenders)
}

/// Swaps masters of replicas until the score is perfect or enough was tried. Gives the score.
pub fn improve(hosts: &[&str], master_of: &mut [Option<usize>], rng: &mut Rng) -> usize {
    let replicas: Vec<usize> = (0..hosts.len())
        .filter(|&n| master_of[n].is_some())
        .collect();
    for _ in 0..SWAPS * hosts.len() {
        let (before, offenders) = score(hosts, master_of);
        if before == 0 || offenders.is_empty() || replicas.len() < 2 {
            break;
        }
        let mut pick = |from: &[usize]| from[rng.below(from.len() as u64) as usize];
        let first = pick(&offenders);
        let others: Vec<usize> = replicas.iter().copied().filter(|&n| n != first).collect();
        let second = pick(&others);
        master_of.swap(first, second);
        // (What makes it no better may be half of a way that does.)
        if score(hosts, master_of).0 > before {
            master_of.swap(first, second);
        }
    }
    score(hosts, master_of).0
}

/// Whether a replica is on its master's host.
pub fn is_with_master(score: usize) -> bool {
    score >= WITH_MASTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_shared_as_redis_shares_them() {
        let layout = layout(&["h"; 3], 0).unwrap();
        assert_eq!(
            layout.masters,
            [(0, 0, 5460), (1, 5461, 10922), (2, 10923, 16383)]
        );
        assert!(layout.replicas.is_empty() && layout.extra_from.is_none());
        for n in [1, 5, 7, 100, 1000] {
            let shares = share(&(0..n).collect::<Vec<_>>());
            assert_eq!((shares[0].1, shares[n - 1].2), (0, SLOTS - 1));
            assert!(shares.windows(2).all(|w| w[0].2 + 1 == w[1].1), "{n}");
        }
        assert_eq!(super::layout(&["h"], 1), None);
    }

    #[test]
    fn replicas_are_on_other_hosts() {
        let hosts = ["a", "a", "b", "b", "c", "c", "c"];
        let layout = layout(&hosts, 1).unwrap();
        let masters: Vec<usize> = layout.masters.iter().map(|m| m.0).collect();
        assert_eq!(masters, [0, 2, 4]);
        assert_eq!(layout.replicas, [(3, 0), (5, 2), (1, 4), (6, 0)]);
        assert_eq!(layout.extra_from, Some(3));
        let mut master_of = [None; 7];
        for (replica, master) in layout.replicas {
            master_of[replica] = Some(master);
        }
        assert_eq!(score(&hosts, &master_of).0, 0);
    }

    #[test]
    fn swaps_find_a_better_layout() {
        let hosts = ["a", "b", "c", "a", "b", "c"];
        let mut master_of = [None, None, None, Some(0), Some(1), Some(2)];
        assert_eq!(score(&hosts, &master_of), (3 * WITH_MASTER, vec![3, 4, 5]));
        assert_eq!(improve(&hosts, &mut master_of, &mut Rng::new(1)), 0);
        // One host alone cannot be made better.
        let hosts = ["a"; 4];
        let mut master_of = [None, None, Some(0), Some(1)];
        let after = improve(&hosts, &mut master_of, &mut Rng::new(1));
        assert!(is_with_master(after) && after == 2 * WITH_MASTER);
        // Two replicas of one master on one host weigh little.
        assert_eq!(
            score(&["a", "b", "b"], &[None, Some(0), Some(0)]),
            (2, vec![1])
        );
    }
}
