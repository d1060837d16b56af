//! How a partition begins. Its preferred leader waits until every declared replica has stated its
//! life and that it holds no founding record, syncs one, and only then shows it to the others; a
//! replica accepts only the first. A node whose folder is new where others know it as founded waits
//! as a stranger: it never votes under an old name.

use std::collections::BTreeSet;

use super::Node;
use super::member::{Member, Slot};
use super::persist::Done;
use crate::channel::Stream;
use crate::replica::{RecoveredLog, Replica, ReplicaConfig};
use crate::types::{JournalItem, NodeName, Partition, ReplicaId, Sabotage};
use crate::wire::founding::Founding;
use crate::wire::peer::{Found, PeerMessage};

impl Node {
    /// Founds what this node should found and can; shows foundings to replicas that lack them.
    pub(super) fn found_partitions(&mut self) {
        let partitions: Vec<Partition> = self.slots.keys().cloned().collect();
        for partition in partitions {
            self.found_partition(partition);
        }
    }

    fn found_partition(&mut self, partition: Partition) {
        match self.slots.get(&partition) {
            Some(Slot::Unfounded(None)) => {
                if let Some(founding) = self.may_found(&partition) {
                    self.info(format!("founds {partition} with {}", voters(&founding)));
                    self.begin_founding(partition, founding);
                }
            }
            None | Some(Slot::Unfounded(Some(_)) | Slot::Stranger(_)) => {}
            Some(Slot::Member(member)) => {
                let founding = member.founding.clone();
                self.show_founding(&partition, &founding);
                self.call_first_election(&partition, &founding);
            }
        }
    }

    /// Another replica shows its founding record.
    pub(super) fn handle_found(&mut self, from: &NodeName, found: Found) {
        let partition = Partition::new(&found.channel, found.partition);
        let founding = match Founding::decode(&found.record) {
            Ok(founding)
                if founding.partition == partition
                    && founding.fabric == self.topology.fabric.name
                    && self.could_found(&founding) =>
            {
                founding
            }
            _ => {
                self.warn(format!(
                    "{from} shows a founding record of {partition} that does not fit this topology"
                ));
                return;
            }
        };
        match self.slots.get(&partition) {
            Some(Slot::Unfounded(None)) => {}
            Some(Slot::Unfounded(Some(ours)) | Slot::Stranger(ours)) if *ours == founding => return,
            Some(Slot::Member(member)) if member.founding == founding => return,
            Some(_) => {
                self.warn(format!(
                    "{from} shows another founding record of {partition}: {}; this node keeps its \
                     own",
                    voters(&founding)
                ));
                return;
            }
            None => return,
        }
        if founding.voters.contains(&self.me()) {
            self.begin_founding(partition, founding);
        } else if self.replaces {
            let me = self.me();
            self.info(format!(
                "{partition} is to be filled here: {me} takes a former folder's place"
            ));
            self.begin_founding(partition, founding);
        } else {
            self.warn(format!(
                "{partition} was founded with {}; this data folder ({}) is not among them and has \
                 no vote",
                voters(&founding),
                self.incarnation
            ));
            self.slots.insert(partition, Slot::Stranger(founding));
        }
    }

    /// The founding record is synced: the replica begins.
    pub(super) fn handle_founded(&mut self, partition: &Partition) {
        let Some(Slot::Unfounded(Some(founding))) = self.slots.get(partition) else {
            return;
        };
        let founding = founding.clone();
        let member = self.begin_member(founding, RecoveredLog::default(), (None, 0));
        self.slots
            .insert(partition.clone(), Slot::Member(Box::new(member)));
        self.dirty.insert(partition.clone());
        self.state_due = true;
        // One commit may found hundreds; the others are looked at with the next beat.
        self.found_partition(partition.clone());
    }

    /// Whether this topology could have led to the record: with another one this node would not
    /// start again.
    fn could_found(&self, founding: &Founding) -> bool {
        let channel = self.topology.channels.get(&founding.partition.channel);
        let nodes: BTreeSet<&NodeName> = founding.voters.iter().map(|voter| &voter.node).collect();
        let ids: BTreeSet<u64> = founding.voters.iter().map(ReplicaId::raft_id).collect();
        let placed = self.placement.get(&founding.partition);
        channel.is_some_and(|channel| channel.partitions == founding.partitions)
            && placed.is_some_and(|placed| nodes == placed.iter().collect())
            && ids.len() == founding.voters.len()
            && nodes.len() == founding.voters.len()
    }

    pub(super) fn begin_member(
        &self,
        founding: Founding,
        log: RecoveredLog,
        (stream, covered): (Option<Stream>, u64),
    ) -> Member {
        let mut stream = stream.unwrap_or_else(|| Stream::new(&self.topology.limits));
        stream.found(&founding.voters);
        let mut me = self.me();
        if Sabotage::StolenVote.is_on()
            && let Some(former) = stream.members().voter_of(&me.node)
        {
            me = former.clone();
        }
        let config = ReplicaConfig {
            partition: founding.partition.clone(),
            me: me.clone(),
            members: stream.members().clone(),
            covered,
            seed: self.seed,
            cache_bytes: self.topology.limits.cache_bytes,
        };
        Member::new(me, Replica::new(config, log), stream, founding)
    }

    pub(super) fn me(&self) -> ReplicaId {
        ReplicaId {
            node: self.name.clone(),
            incarnation: self.incarnation,
        }
    }

    fn begin_founding(&mut self, partition: Partition, founding: Founding) {
        let record = founding.encode();
        self.journal.push(
            JournalItem::Founding {
                partition: partition.clone(),
                record,
            },
            self.now.mono,
        );
        self.journal.await_sync(Done::Founded(partition.clone()));
        self.slots
            .insert(partition, Slot::Unfounded(Some(founding)));
    }

    /// The record to found with, if this node is the one to do it and all replicas are ready.
    fn may_found(&self, partition: &Partition) -> Option<Founding> {
        let nodes = self.placement.get(partition)?;
        if nodes.first() != Some(&self.name) {
            return None;
        }
        let mut voters = Vec::new();
        for node in nodes {
            if *node == self.name {
                voters.push(self.me());
                continue;
            }
            let peer = self
                .peers
                .get(node)
                .filter(|peer| peer.is_up(self.now.mono))?;
            // Nodes of different epochs may place the partition differently, and found it twice.
            if peer.epoch != Some(self.topology.fabric.epoch) {
                return None;
            }
            if peer.holds.get(partition) != Some(&None) {
                return None;
            }
            voters.push(ReplicaId {
                node: node.clone(),
                incarnation: peer.incarnation?,
            });
        }
        let mut ids: Vec<u64> = voters.iter().map(ReplicaId::raft_id).collect();
        ids.sort_unstable();
        ids.dedup();
        let partitions = self.topology.channels.get(&partition.channel)?.partitions;
        let fabric = self.topology.fabric.name.clone();
        (ids.len() == voters.len()).then_some(Founding {
            fabric,
            partition: partition.clone(),
            partitions,
            voters,
        })
    }

    /// The founder calls the first election as soon as a majority holds the founding record, and so
    /// leads from the start.
    fn call_first_election(&mut self, partition: &Partition, founding: &Founding) {
        let holding = founding.voters.iter().filter(|voter| {
            let holds = self
                .peers
                .get(&voter.node)
                .and_then(|peer| peer.holds.get(partition));
            voter.node == self.name || holds == Some(&Some(founding.mark()))
        });
        if founding.voters[0] != self.me() || 2 * holding.count() <= founding.voters.len() {
            return;
        }
        if let Some(Slot::Member(member)) = self.slots.get_mut(partition)
            && member.replica.term() == 0
            && member.replica.role() == "follower"
        {
            member.replica.campaign();
            self.dirty.insert(partition.clone());
        }
    }

    fn show_founding(&mut self, partition: &Partition, founding: &Founding) {
        let Some(nodes) = self.placement.get(partition) else {
            return;
        };
        for node in nodes.iter().filter(|node| **node != self.name) {
            let lacks = self.peers.get(node).is_some_and(|peer| {
                peer.is_up(self.now.mono) && peer.holds.get(partition) == Some(&None)
            });
            if lacks {
                let (channel, number) = (partition.channel.clone(), partition.number);
                let record = founding.encode();
                let found = Found {
                    channel,
                    partition: number,
                    record,
                };
                self.mail.post(node, PeerMessage::Found(found));
            }
        }
    }
}

/// The voters for a person.
pub(super) fn voters(founding: &Founding) -> String {
    let names: Vec<String> = founding.voters.iter().map(ReplicaId::to_string).collect();
    names.join(", ")
}
