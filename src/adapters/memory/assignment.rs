//! Assigns tasks to members: balanced, and sticky, so that a rebalance moves no more than it must.

use crate::ports::source::TaskId;
use std::collections::{BTreeMap, BTreeSet};

/// Gives each task to one of `members` (unique, sorted): counts differ by one at most, and a task stays where `current`
/// has it unless balance demands otherwise.
pub(super) fn assign(
    tasks: &BTreeSet<TaskId>,
    members: &[String],
    current: &BTreeMap<TaskId, String>,
) -> BTreeMap<TaskId, String> {
    let mut kept: BTreeMap<&str, Vec<TaskId>> = members.iter().map(|member| (member.as_str(), Vec::new())).collect();
    let mut free = Vec::new();
    for task in tasks {
        match current.get(task).and_then(|owner| kept.get_mut(owner.as_str())) {
            Some(list) => list.push(*task),
            None => free.push(*task),
        }
    }
    let Some(each) = tasks.len().checked_div(members.len()) else { return BTreeMap::new() };
    let extra = tasks.len() - each * members.len();
    // Members that hold most take the larger shares, so that nothing moves between members that are balanced already.
    let mut by_count: Vec<(&str, Vec<TaskId>)> = kept.into_iter().collect();
    by_count.sort_by_key(|(_, list)| std::cmp::Reverse(list.len()));
    let mut shares = Vec::new();
    for (rank, (member, mut list)) in by_count.into_iter().enumerate() {
        let share = each + usize::from(rank < extra);
        free.extend(list.split_off(share.min(list.len())));
        shares.push((member, share, list));
    }
    free.sort_unstable();
    let mut free = free.into_iter();
    let mut out = BTreeMap::new();
    for (member, share, mut list) in shares {
        let missing = share - list.len();
        list.extend(free.by_ref().take(missing));
        out.extend(list.into_iter().map(|task| (task, member.to_owned())));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::record::Partition;

    fn tasks(count: i32) -> BTreeSet<TaskId> {
        (0..count).map(|partition| TaskId { sub_topology: 0, partition: Partition(partition) }).collect()
    }

    fn members(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("m{number}")).collect()
    }

    #[test]
    fn shares_differ_by_one_at_most_and_no_more_moves_than_it_must() {
        for count in [0, 1, 5, 12, 13] {
            let mut current = BTreeMap::new();
            for size in [1, 2, 3, 5, 4, 2, 1] {
                let next = assign(&tasks(count), &members(size), &current);
                assert_eq!(next.len(), tasks(count).len());
                let counts: Vec<usize> =
                    members(size).iter().map(|m| next.values().filter(|owner| *owner == m).count()).collect();
                assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
                assert_eq!(assign(&tasks(count), &members(size), &next), next, "a second look moves nothing");
                current = next;
            }
        }
    }

    #[test]
    fn a_newcomer_takes_only_its_share() {
        let before = assign(&tasks(9), &members(2), &BTreeMap::new());
        let after = assign(&tasks(9), &members(3), &before);
        assert_eq!(before.iter().filter(|(task, owner)| after.get(task) != Some(*owner)).count(), 3);
    }
}
