//! Who belongs to a partition: its voters and those who are being made voters.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{NodeName, ReplicaId};

/// The members of a partition after some entry of its log. All replicas that have applied it agree
/// on them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// A majority of them commits and elects; the preferred leader first.
    pub voters: Vec<ReplicaId>,
    /// The voters of before, while one is being replaced: a majority of these is needed too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<ReplicaId>,
    /// Sent the log like voters, and asked for nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<ReplicaId>,
}

/// One step from a data folder that is gone to the one that takes its place. Carried out when it is
/// committed; one that does not fit what the members are by then changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembersChange {
    /// This replica is sent the log from now on.
    Learn {
        /// No member yet.
        learner: ReplicaId,
    },
    /// This learner is sent nothing any more.
    Forget {
        /// The learner.
        learner: ReplicaId,
    },
    /// A learner takes a voter's place: until `Settle`, majorities of the voters of before and of
    /// those to come are needed.
    Replace {
        /// A voter.
        voter: ReplicaId,
        /// A learner of the same node.
        learner: ReplicaId,
    },
    /// The voters of before are needed no more.
    Settle,
}

impl Members {
    /// A partition as it was founded.
    pub fn founded(voters: &[ReplicaId]) -> Self {
        Self {
            voters: voters.to_vec(),
            ..Self::default()
        }
    }

    /// Every member once.
    pub fn all(&self) -> impl Iterator<Item = &ReplicaId> {
        let leaving = self.leaving.iter();
        let leaving = leaving.filter(|gone| !self.voters.contains(gone));
        self.voters.iter().chain(leaving).chain(&self.learners)
    }

    /// The member that Raft knows under this number.
    pub fn find(&self, raft_id: u64) -> Option<&ReplicaId> {
        self.all().find(|member| member.raft_id() == raft_id)
    }

    /// Whether it counts for majorities.
    pub fn votes(&self, replica: &ReplicaId) -> bool {
        self.voters.contains(replica)
    }

    /// The voter of a node.
    pub fn voter_of(&self, node: &NodeName) -> Option<&ReplicaId> {
        self.voters.iter().find(|voter| voter.node == *node)
    }

    /// The learner of a node.
    pub fn learner_of(&self, node: &NodeName) -> Option<&ReplicaId> {
        self.learners.iter().find(|learner| learner.node == *node)
    }

    /// Whether a voter is being replaced.
    pub fn is_joint(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Whether the change fits what the members are now.
    pub fn takes(&self, change: &MembersChange) -> bool {
        match change {
            MembersChange::Learn { learner } => {
                let mut ids: BTreeSet<u64> = self.all().map(ReplicaId::raft_id).collect();
                let known = self.voter_of(&learner.node).is_some();
                let second = self.learner_of(&learner.node).is_some();
                !self.is_joint() && known && !second && ids.insert(learner.raft_id())
            }
            MembersChange::Forget { learner } => {
                !self.is_joint() && self.learners.contains(learner)
            }
            MembersChange::Replace { voter, learner } => {
                let both = self.voters.contains(voter) && self.learners.contains(learner);
                !self.is_joint() && both && voter.node == learner.node
            }
            MembersChange::Settle => self.is_joint(),
        }
    }

    /// Whether majorities of it mean anything: there are voters, and nobody is named
    /// twice.
    pub fn is_sound(&self) -> bool {
        let unique = |members: &mut dyn Iterator<Item = &ReplicaId>| {
            let ids: Vec<u64> = members.map(ReplicaId::raft_id).collect();
            ids.iter().collect::<BTreeSet<_>>().len() == ids.len()
        };
        let learners = || self.learners.iter();
        !self.voters.is_empty()
            && unique(&mut self.voters.iter().chain(learners()))
            && unique(&mut self.leaving.iter().chain(learners()))
    }

    /// Carries out a change; whether it fitted.
    pub fn apply(&mut self, change: &MembersChange) -> bool {
        if !self.takes(change) {
            return false;
        }
        match change {
            MembersChange::Learn { learner } => self.learners.push(learner.clone()),
            MembersChange::Forget { learner } => self.learners.retain(|known| known != learner),
            MembersChange::Replace { voter, learner } => {
                self.leaving = self.voters.clone();
                self.learners.retain(|known| known != learner);
                for place in self.voters.iter_mut().filter(|known| *known == voter) {
                    *place = learner.clone();
                }
            }
            MembersChange::Settle => self.leaving.clear(),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Incarnation;

    fn replica(node: &str, incarnation: u64) -> ReplicaId {
        ReplicaId {
            node: node.into(),
            incarnation: Incarnation(incarnation),
        }
    }

    #[test]
    fn a_folder_takes_the_place_of_another_step_by_step() {
        let (old, new) = (replica("a", 1), replica("a", 2));
        let founded = Members::founded(&[old.clone(), replica("b", 1), replica("c", 1)]);
        let learn = MembersChange::Learn {
            learner: new.clone(),
        };
        let replace = MembersChange::Replace {
            voter: old.clone(),
            learner: new.clone(),
        };
        let mut members = founded.clone();
        for early in [&replace, &MembersChange::Settle] {
            assert!(!members.apply(early), "{early:?}");
            assert_eq!(members, founded);
        }
        assert!(members.apply(&learn));
        assert!(!members.takes(&learn), "it is one already");
        let second = replica("a", 3);
        assert!(!members.takes(&MembersChange::Learn { learner: second }));
        assert_eq!((members.all().count(), members.votes(&new)), (4, false));
        assert!(members.apply(&replace));
        assert!(members.is_joint() && members.votes(&new) && !members.votes(&old));
        assert_eq!(members.all().count(), 4);
        assert_eq!(members.find(old.raft_id()), Some(&old));
        assert!(!members.takes(&learn));
        assert!(members.apply(&MembersChange::Settle));
        let voters = [new.clone(), replica("b", 1), replica("c", 1)];
        assert_eq!(members, Members::founded(&voters));
        assert_eq!(members.find(old.raft_id()), None);
    }

    #[test]
    fn only_a_folder_of_a_voters_node_may_take_its_place() {
        let mut members = Members::founded(&[replica("a", 1), replica("b", 1)]);
        let stranger = replica("d", 1);
        assert!(!members.takes(&MembersChange::Learn { learner: stranger }));
        let learner = replica("b", 2);
        assert!(members.apply(&MembersChange::Learn {
            learner: learner.clone()
        }));
        let voter = replica("a", 1);
        let crossed = MembersChange::Replace {
            voter,
            learner: learner.clone(),
        };
        assert!(!members.takes(&crossed), "b's folder is not a's");
        assert!(members.apply(&MembersChange::Forget { learner }));
        assert_eq!(members.all().count(), 2);
    }
}
