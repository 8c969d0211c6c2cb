//! Finds cycles: takes away what needs nothing that is left, then what nothing left needs; what stays goes round. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// The cycles of a graph in which each part needs others, each as the way round with its first part again at the end.
/// A part that only leads to a cycle, or hangs on one, is in none. The same for the same graph.
pub(super) fn cycles<P: Clone + Ord>(needs: &BTreeMap<P, Vec<P>>) -> Vec<Vec<P>> {
    let mut needed_by: BTreeMap<&P, Vec<&P>> = BTreeMap::new();
    for (part, others) in needs {
        for other in others {
            needed_by.entry(other).or_default().push(part);
        }
    }
    let forward = |part: &P| needs.get(part).into_iter().flatten().collect::<Vec<_>>();
    let backward = |part: &P| needed_by.get(part).cloned().unwrap_or_default();
    let mut left: BTreeSet<&P> = needs.keys().chain(needed_by.keys().copied()).collect();
    peel(&mut left, forward, backward);
    peel(&mut left, backward, forward);
    let mut cycles = Vec::new();
    let mut done: BTreeSet<&P> = BTreeSet::new();
    for start in &left {
        let mut way: Vec<&P> = Vec::new();
        let mut at = *start;
        while !done.contains(at) && !way.contains(&at) {
            way.push(at);
            let next = forward(at).into_iter().find(|next| left.contains(next));
            // Whatever is left needs something that is left.
            let Some(next) = next else { break };
            at = next;
        }
        if let Some(begin) = way.iter().position(|part| *part == at) {
            let mut cycle: Vec<P> = way[begin..].iter().map(|part| (*part).clone()).collect();
            cycle.push(at.clone());
            cycles.push(cycle);
        }
        done.extend(way);
    }
    cycles
}

/// Takes out, again and again, whatever has none of its `outgoing` left.
fn peel<'a, P: Ord>(
    left: &mut BTreeSet<&'a P>,
    outgoing: impl Fn(&P) -> Vec<&'a P>,
    incoming: impl Fn(&P) -> Vec<&'a P>,
) {
    let mut counts: BTreeMap<&P, usize> = BTreeMap::new();
    let mut free: Vec<&P> = Vec::new();
    for part in left.iter() {
        let count = outgoing(part)
            .iter()
            .filter(|other| left.contains(*other))
            .count();
        counts.insert(part, count);
        if count == 0 {
            free.push(part);
        }
    }
    while let Some(part) = free.pop() {
        left.remove(part);
        for other in incoming(part) {
            if let Some(count) = counts.get_mut(other).filter(|_| left.contains(other)) {
                *count -= 1;
                if *count == 0 {
                    free.push(other);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(edges: &[(u8, u8)]) -> Vec<Vec<u8>> {
        let mut needs: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        for (part, other) in edges {
            needs.entry(*part).or_default().push(*other);
        }
        cycles(&needs)
    }

    #[test]
    fn only_what_goes_round_is_a_cycle() {
        assert_eq!(of(&[(1, 2), (2, 3), (1, 3)]), Vec::<Vec<u8>>::new());
        assert_eq!(of(&[(1, 2), (2, 3), (3, 2), (3, 4)]), [[2, 3, 2]]);
        assert_eq!(of(&[(5, 5)]), [[5, 5]]);
        assert_eq!(
            of(&[(1, 2), (2, 1), (2, 3), (3, 4), (4, 3)]),
            [[1, 2, 1], [3, 4, 3]]
        );
        // Needed twice, and found once.
        assert_eq!(of(&[(1, 2), (1, 2), (2, 1)]), [[1, 2, 1]]);
    }
}
