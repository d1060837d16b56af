//! Which nodes hold which partition, and who leads it when all is well.
//!
//! Rendezvous hashing: every node draws a score for every partition from their names alone, and the
//! highest scores win, zones and hosts with fewer copies going first. So a partition's nodes depend
//! on nothing but its own name and the nodes: another channel moves nothing, another node takes
//! only what it wins.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::model::Topology;
use crate::types::{ChannelName, NodeName, Partition};

/// A node as placement sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat<'a> {
    pub(super) name: &'a str,
    pub(super) host: &'a str,
    pub(super) zone: Option<&'a str>,
}

impl Seat<'_> {
    /// Its zone; a node without one is its host's own.
    pub(super) fn zone(&self) -> &str {
        self.zone.unwrap_or(self.host)
    }
}

impl Topology {
    /// The nodes that hold each partition of every stored channel; the first leads if all is well.
    ///
    /// A function of the declared names alone, whatever the order of the file. It costs nodes times
    /// partitions, so keep the answer.
    pub fn placement(&self) -> BTreeMap<Partition, Vec<NodeName>> {
        let seats: Vec<Seat> = self
            .nodes
            .iter()
            .map(|node| Seat {
                name: node.name.as_str(),
                host: &node.host,
                zone: node.zone.as_deref(),
            })
            .collect();
        let mut placement = BTreeMap::new();
        for (name, channel) in &self.channels {
            if !channel.is_stored() {
                continue;
            }
            let places = place(name, channel.partitions, channel.replicas, &seats);
            for (number, nodes) in (0..).zip(places) {
                let nodes = nodes
                    .iter()
                    .map(|node| self.nodes[*node].name.clone())
                    .collect();
                placement.insert(Partition::new(name, number), nodes);
            }
        }
        placement
    }
}

/// The seats of each partition of one channel, by position in `seats`, preferred leader first.
pub(super) fn place(
    channel: &ChannelName,
    partitions: u32,
    replicas: u32,
    seats: &[Seat],
) -> Vec<Vec<usize>> {
    let mut led = vec![0u32; seats.len()];
    (0..partitions)
        .map(|number| {
            let mut chosen = choose(&Partition::new(channel, number), replicas, seats);
            // Leaders are dealt within the channel, to whoever of the replicas leads least so far:
            // `min_by_key` gives the first, so scores decide among equals.
            if let Some(leader) = (0..chosen.len()).min_by_key(|at| led[chosen[*at]]) {
                led[chosen[leader]] += 1;
                chosen[..=leader].rotate_right(1);
            }
            chosen
        })
        .collect()
}

/// Up to `replicas` seats for one partition: spread over zones first, then hosts, then by score.
fn choose(partition: &Partition, replicas: u32, seats: &[Seat]) -> Vec<usize> {
    let scores: Vec<(u64, u64)> = seats
        .iter()
        .map(|seat| {
            (
                score(partition, "host", seat.host),
                score(partition, "node", seat.name),
            )
        })
        .collect();
    let mut chosen: Vec<usize> = Vec::new();
    let mut zones: BTreeMap<&str, u32> = BTreeMap::new();
    let mut hosts: BTreeMap<&str, u32> = BTreeMap::new();
    while chosen.len() < replicas as usize {
        let next = (0..seats.len())
            .filter(|at| !chosen.contains(at))
            .min_by_key(|at| {
                let seat = &seats[*at];
                let in_zone = zones.get(seat.zone()).copied().unwrap_or(0);
                let on_host = hosts.get(seat.host).copied().unwrap_or(0);
                let (host, node) = scores[*at];
                (in_zone, on_host, Reverse(host), Reverse(node), seat.name)
            });
        let Some(next) = next else {
            break;
        };
        *zones.entry(seats[next].zone()).or_default() += 1;
        *hosts.entry(seats[next].host).or_default() += 1;
        chosen.push(next);
    }
    chosen
}

/// What `name` draws for `partition`: 64-bit FNV-1a over all of it
/// (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>), then the finaliser of SplitMix64
/// (Steele, Lea, Flood 2014), since FNV alone leaves the high bits of short names alike. Part of
/// the fabric's contract: another function would move every partition.
fn score(partition: &Partition, role: &str, name: &str) -> u64 {
    let number = partition.number.to_le_bytes();
    let parts = [
        partition.channel.as_str().as_bytes(),
        &number,
        role.as_bytes(),
        name.as_bytes(),
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for part in parts {
        // 0xff is no byte of UTF-8, so it ends a part for certain.
        for byte in part.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("n{number}")).collect()
    }

    fn seats<'a>(
        names: &'a [String],
        host: impl Fn(usize) -> &'a str,
        zone: impl Fn(usize) -> Option<&'a str>,
    ) -> Vec<Seat<'a>> {
        names
            .iter()
            .enumerate()
            .map(|(at, name)| Seat {
                name,
                host: host(at),
                zone: zone(at),
            })
            .collect()
    }

    fn count(
        places: &[Vec<usize>],
        seats: usize,
        of: impl Fn(&[usize], usize) -> bool,
    ) -> Vec<usize> {
        (0..seats)
            .map(|seat| places.iter().filter(|nodes| of(nodes, seat)).count())
            .collect()
    }

    #[test]
    fn leaders_are_even_within_a_channel() {
        let names = names(5);
        let seats = seats(&names, |at| &names[at], |_| None);
        for partitions in [1, 4, 5, 12, 64, 300] {
            let places = place(&"orders".into(), partitions, 3, &seats);
            let led = count(&places, 5, |nodes, seat| nodes[0] == seat);
            let (least, most) = (
                led.iter().min().expect("five"),
                led.iter().max().expect("five"),
            );
            // Who holds a copy is chance, so the last few cannot always be dealt to the least.
            assert!(most - least <= 2, "{partitions} partitions led {led:?}");
        }
    }

    #[test]
    fn copies_are_spread_over_nodes() {
        let names = names(10);
        let seats = seats(&names, |at| &names[at], |_| None);
        let places = place(&"orders".into(), 1_000, 3, &seats);
        for held in count(&places, 10, |nodes, seat| nodes.contains(&seat)) {
            assert!(
                (240..=360).contains(&held),
                "a node holds {held} of 3,000 copies"
            );
        }
        assert!(
            places
                .iter()
                .all(|nodes| nodes.iter().collect::<BTreeSet<_>>().len() == 3)
        );
    }

    #[test]
    fn hosts_are_used_up_before_a_host_holds_two_copies() {
        let names = names(6);
        let hosts = ["x", "y", "z"];
        let seats = seats(&names, |at| hosts[at / 2], |_| None);
        for nodes in place(&"orders".into(), 100, 3, &seats) {
            let used: BTreeSet<&str> = nodes.iter().map(|at| seats[*at].host).collect();
            assert_eq!(used.len(), 3);
        }
        for nodes in place(&"orders".into(), 100, 5, &seats) {
            let used: BTreeSet<&str> = nodes.iter().map(|at| seats[*at].host).collect();
            assert_eq!((nodes.len(), used.len()), (5, 3));
        }
    }

    #[test]
    fn zones_come_before_hosts() {
        // Zone `big` has four hosts, the others one each: three copies still see three zones.
        let names = names(6);
        let zone = |at| Some(["big", "big", "big", "big", "left", "right"][at]);
        let seats = seats(&names, |at| &names[at], zone);
        for nodes in place(&"orders".into(), 100, 3, &seats) {
            let used: BTreeSet<&str> = nodes.iter().map(|at| seats[*at].zone()).collect();
            assert_eq!(used.len(), 3);
        }
        let places = place(&"orders".into(), 400, 3, &seats);
        let held = count(&places, 6, |nodes, seat| nodes.contains(&seat));
        assert!(
            held[..4].iter().all(|held| (70..=130).contains(held)),
            "{held:?}"
        );
    }

    #[test]
    fn another_node_takes_only_what_it_wins() {
        let names = names(6);
        let old = seats(&names[..5], |at| &names[at], |_| None);
        let new = seats(&names, |at| &names[at], |_| None);
        let before = place(&"orders".into(), 200, 3, &old);
        let after = place(&"orders".into(), 200, 3, &new);
        let mut moved = 0;
        for (before, after) in before.iter().zip(&after) {
            let before: BTreeSet<usize> = before.iter().copied().collect();
            let after: BTreeSet<usize> = after.iter().copied().collect();
            let arrived: Vec<usize> = after.difference(&before).copied().collect();
            assert!(
                arrived.is_empty() || arrived == [5],
                "{before:?} became {after:?}"
            );
            moved += arrived.len();
        }
        assert!((60..=140).contains(&moved), "{moved} of 600 copies moved");
    }

    #[test]
    fn the_order_of_the_file_means_nothing() {
        let names = names(7);
        let mut shuffled = names.clone();
        shuffled.reverse();
        let forth = seats(&names, |at| &names[at], |_| None);
        let back = seats(&shuffled, |at| &shuffled[at], |_| None);
        let named = |places: Vec<Vec<usize>>, seats: &[Seat]| -> Vec<Vec<String>> {
            places
                .iter()
                .map(|nodes| nodes.iter().map(|at| seats[*at].name.to_owned()).collect())
                .collect()
        };
        assert_eq!(
            named(place(&"audit".into(), 50, 3, &forth), &forth),
            named(place(&"audit".into(), 50, 3, &back), &back),
        );
    }

    #[test]
    fn the_function_is_the_one_that_placed_existing_data() {
        // Golden: a change here moves every partition of every running fabric.
        let names: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let seats = seats(&names, |at| &names[at], |_| None);
        let places = place(&"orders".into(), 4, 3, &seats);
        let expected: [[usize; 3]; 4] = [[1, 3, 4], [0, 1, 3], [2, 1, 3], [3, 1, 2]];
        assert_eq!(places, expected);
    }

    #[test]
    fn more_replicas_than_nodes_take_all_there_are() {
        let names = names(2);
        let seats = seats(&names, |at| &names[at], |_| None);
        assert_eq!(place(&"orders".into(), 1, 3, &seats)[0].len(), 2);
        assert_eq!(place(&"orders".into(), 1, 3, &[]), [Vec::<usize>::new()]);
    }
}
