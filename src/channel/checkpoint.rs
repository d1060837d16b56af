//! The state of a stream as bytes, for the journal: what is in the log up to an entry, without that
//! part of the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::cursor::Cursors;
use super::extent::Extent;
use super::stream::{Stored, Stream, Window};
use crate::types::{Limits, Members, Sabotage, Wall};

/// What is written, by field name, so that a later version may add some.
#[derive(Serialize, Deserialize)]
struct State {
    extent: Extent,
    time: Wall,
    /// Numbered batches so far.
    heard: u64,
    producers: Vec<ProducerState>,
    /// Absent in states that were written before there were any.
    #[serde(default)]
    cursors: Cursors,
    /// Absent in states that were written before one could be replaced.
    #[serde(default)]
    members: Members,
}

#[derive(Serialize, Deserialize)]
struct ProducerState {
    producer: Bytes,
    floor: Option<u64>,
    heard: u64,
    /// Sequence, offset and digest.
    stored: Vec<(u64, u64, Bytes)>,
}

impl Stream {
    /// Everything that committed entries have led to; what is only proposed is no part of it.
    pub fn encode(&self) -> Bytes {
        let producer = |(producer, window): (&Bytes, &Window)| ProducerState {
            producer: producer.clone(),
            floor: window.floor,
            heard: window.heard,
            stored: window
                .stored
                .iter()
                .map(|(sequence, stored)| (*sequence, stored.offset, stored.digest.clone()))
                .collect(),
        };
        let state = State {
            extent: self.extent.clone(),
            time: self.last_time,
            heard: self.clock,
            producers: match Sabotage::HollowCheckpoint.is_on() {
                true => Vec::new(),
                false => self.windows.iter().map(producer).collect(),
            },
            cursors: match Sabotage::ForgottenCursors.is_on() {
                true => Cursors::default(),
                false => self.cursors.clone(),
            },
            members: self.members.clone(),
        };
        // Encoding a struct of integers, byte strings and lists into memory has no way to fail.
        let bytes = rmp_serde::to_vec_named(&state).expect("a state always encodes");
        bytes.into()
    }

    /// The stream that [`Stream::encode`] wrote, or what is wrong with the bytes.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, String> {
        let state: State = rmp_serde::from_slice(bytes).map_err(|error| error.to_string())?;
        let mut stream = Self::new(limits);
        stream.extent = state.extent;
        stream.last_time = state.time;
        stream.clock = state.heard;
        stream.cursors = state.cursors;
        stream.members = state.members;
        for known in state.producers {
            let stored = known.stored.into_iter();
            let window = Window {
                stored: stored
                    .map(|(sequence, offset, digest)| (sequence, Stored { offset, digest }))
                    .collect::<BTreeMap<_, _>>(),
                floor: known.floor,
                heard: known.heard,
            };
            stream.by_age.insert(known.heard, known.producer.clone());
            stream.windows.insert(known.producer, window);
        }
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Stamp;
    use crate::types::{
        Command, CursorChange, CursorDoes, CursorStart, Incarnation, MembersChange, ReplicaId,
        TrimCause,
    };

    #[derive(Serialize)]
    struct Older {
        extent: Extent,
        time: Wall,
        heard: u64,
        producers: Vec<ProducerState>,
    }

    #[test]
    fn a_stream_goes_on_as_it_was() {
        let limits = Limits {
            producer_window: 3,
            producers_max: 3,
            ..Limits::default()
        };
        let mut stream = Stream::new(&limits);
        for n in 0..20_u64 {
            let stamp = Stamp {
                producer: Bytes::from(format!("生产者 {}", n % 4)),
                sequence: n,
                digest: Bytes::from(n.to_le_bytes().to_vec()),
            };
            let batches = [(2, Some(stamp)), (1, None)];
            stream
                .apply((n + 1, 3 * n), Wall(n), 100, batches)
                .expect("continues");
        }
        let trim = Command::Trim {
            first: 17,
            cause: TrimCause::Age,
        };
        let change = |does| CursorChange {
            name: "账单".to_owned(),
            does,
        };
        let (from, holder) = (CursorStart::Start, 7);
        let (token, ranges) = (1, vec![(0, 9), (20, 25), (30, 31)]);
        let changes = vec![
            change(CursorDoes::Open { from, holder }),
            change(CursorDoes::Ack { token, ranges }),
        ];
        let done = stream.apply_command(&Command::Cursors { changes }, Wall(50));
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        stream.apply_command(&trim, Wall(50));
        let mut again = Stream::decode(&stream.encode(), &limits).expect("decodes");
        assert_eq!(again, stream);
        assert_eq!((again.unretained(20), again.first_offset()), (5, 17));
        let (_, cursor) = again.cursors().next().expect("a cursor");
        assert_eq!((cursor.floor, cursor.acked, cursor.missed), (17, 15, 8));
        for stream in [&mut stream, &mut again] {
            let stamp = Stamp {
                producer: Bytes::from_static(b"another"),
                sequence: 1,
                digest: Bytes::new(),
            };
            stream
                .apply((23, 60), Wall(60), 9, [(1, Some(stamp))])
                .expect("continues");
        }
        assert_eq!(again, stream);
        let bytes = stream.encode();
        let state: State = rmp_serde::from_slice(&bytes).expect("decodes");
        // As it was written before there were cursors.
        let older = rmp_serde::to_vec_named(&Older {
            extent: state.extent,
            time: state.time,
            heard: state.heard,
            producers: state.producers,
        });
        let older = Stream::decode(&older.expect("encodes"), &limits).expect("decodes");
        assert_eq!((older.cursor_count(), older.heard()), (0, stream.heard()));
        assert_eq!(older.members(), &Members::default());
        for end in 0..bytes.len() {
            assert!(Stream::decode(&bytes[..end], &limits).is_err());
        }
    }

    #[test]
    fn a_stream_knows_its_members() {
        let limits = Limits::default();
        let mut stream = Stream::new(&limits);
        let replica = |incarnation| ReplicaId {
            node: "a".into(),
            incarnation: Incarnation(incarnation),
        };
        stream.found(&[replica(1)]);
        let learner = replica(2);
        let change = MembersChange::Learn { learner };
        stream.apply_command(&Command::Members { change }, Wall(50));
        let mut again = Stream::decode(&stream.encode(), &limits).expect("decodes");
        again.found(&[replica(3)]);
        assert_eq!(again, stream);
        assert_eq!(again.members().learners, [replica(2)]);
        assert_eq!(again.members().voters, [replica(1)]);
    }
}
