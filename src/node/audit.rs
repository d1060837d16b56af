//! An audit: a client has this node read its own replica of a partition from the journal. What it
//! finds is counted entry by entry and record by record, and told beside what the node counts
//! anyway, so that whoever asks all replicas sees the first difference.

use ring::digest::{Context, SHA256};

use super::io::ClientId;
use super::member::{Member, Slot};
use super::serve::LoadFor;
use super::{Node, publish};
use crate::channel::Trimmed;
use crate::types::limits::{AUDITS_MAX, DELIVER_BYTES_MAX};
use crate::types::{Command, LoadFrom, LoadRequest, LogEntry, Partition, Sabotage};
use crate::wire::audit::{Account, Audit, Audited, EntriesRead, TrimRead};
use crate::wire::client::Reply;
use crate::wire::entry::{EntryContent, EntryHead};
use crate::wire::{Code, records};

impl Node {
    /// A client asks for a part of this node's replica.
    pub(super) fn handle_audit(&mut self, client: &ClientId, audit: &Audit) {
        let partition = Partition::new(&audit.channel, audit.partition);
        let Some(Slot::Member(member)) = self.slots.get(&partition) else {
            let message = format!("{} holds no replica of {partition}", self.name);
            return self.refuse(client, Code::NoPartition.refuse(audit.id, message));
        };
        let (applied, covered) = (member.replica.applied(), member.covered);
        if applied < covered {
            let message = format!(
                "{} is still sent entries {applied} to {covered} of {partition}, which it counts \
                 already",
                self.name
            );
            return self.refuse(client, publish::refuse(Code::Busy, audit.id, message));
        }
        if audit.to <= audit.from {
            return self.audited(&partition, client, audit.id, None);
        }
        let (from, index_end) = (audit.from, audit.to.min(applied + 1));
        if from == 0 || index_end <= from {
            let nothing = read(from, &[]);
            return self.audited(&partition, client, audit.id, Some(nothing));
        }
        if self.loads.audits() >= AUDITS_MAX {
            let message = format!("{} reads for {AUDITS_MAX} audits already", self.name);
            return self.refuse(client, publish::refuse(Code::Busy, audit.id, message));
        }
        let load = LoadRequest {
            id: 0,
            partition,
            from: LoadFrom::Index(from),
            index_end,
            bytes_max: DELIVER_BYTES_MAX,
        };
        let (client, id) = (client.clone(), audit.id);
        let wanted = LoadFor::Audit { client, id, from };
        self.loads.start(load, wanted, &mut self.out);
    }

    /// What was to be audited came back from the journal, or why it cannot be read.
    pub(super) fn answer_audit(
        &mut self,
        partition: &Partition,
        client: &ClientId,
        id: Option<u64>,
        from: u64,
        result: Result<Vec<LogEntry>, String>,
    ) {
        let found = match result {
            Ok(entries) => {
                let skim = usize::from(Sabotage::SkimmedAudit.is_on());
                read(from, &entries[..entries.len().saturating_sub(skim)])
            }
            Err(error) => {
                self.error(format!("{partition} cannot be read: {error}"));
                let wrong = Some(format!("entry {from} cannot be read: {error}"));
                let nothing = read(from, &[]);
                EntriesRead { wrong, ..nothing }
            }
        };
        self.audited(partition, client, id, Some(found));
    }

    fn audited(
        &mut self,
        partition: &Partition,
        client: &ClientId,
        id: Option<u64>,
        read: Option<EntriesRead>,
    ) {
        let Some(Slot::Member(member)) = self.slots.get(partition) else {
            return;
        };
        let audited = Audited {
            id,
            node: self.name.to_string(),
            account: account(member),
            read,
        };
        self.reply(client, &Reply::Audited(audited), &[]);
    }
}

fn account(member: &Member) -> Account {
    let applied = member.replica.applied();
    let Trimmed { age, size, count } = member.stream.trimmed();
    Account {
        start: member.stream.unretained(applied) + 1,
        applied,
        first_offset: member.stream.first_offset(),
        next_offset: member.stream.next_offset(),
        retained_bytes: member.stream.retained_bytes(),
        trimmed_by_age: age,
        trimmed_by_size: size,
        trimmed_by_count: count,
    }
}

/// What consecutive entries hold, the first of them `from`.
fn read(from: u64, entries: &[LogEntry]) -> EntriesRead {
    let begins = entries.first().map_or(0, |entry| entry.first_offset);
    let mut found = EntriesRead {
        from,
        to: from,
        first_offset: begins,
        next_offset: begins,
        ..EntriesRead::default()
    };
    let mut digest = Context::new(&SHA256);
    for entry in entries {
        for number in [entry.index, entry.term, entry.data.len() as u64] {
            digest.update(&number.to_be_bytes());
        }
        digest.update(&entry.data);
        if let Err(wrong) = count(entry, &mut found) {
            let (index, offset) = (entry.index, entry.first_offset);
            let wrong = format!("entry {index}, at offset {offset}, {wrong}");
            found.wrong.get_or_insert(wrong);
        }
        found.to = entry.index + 1;
    }
    found.digest = digest.finish().as_ref().to_vec();
    found
}

/// Adds one entry, or says what is wrong with it.
fn count(entry: &LogEntry, found: &mut EntriesRead) -> Result<(), String> {
    let expected = found.next_offset;
    found.next_offset = entry.first_offset + u64::from(entry.count);
    if entry.first_offset != expected {
        let begins = entry.first_offset;
        return Err(format!("begins at offset {begins} instead of {expected}"));
    }
    match EntryContent::decode(&entry.data).map_err(|error| error.to_string())? {
        EntryContent::Blank => {}
        EntryContent::Command(head) => {
            // One that lets go of what never was changes nothing.
            if let Command::Trim { first, cause } = head.does
                && first <= entry.first_offset
            {
                let index = entry.index;
                found.trims.push(TrimRead {
                    index,
                    first,
                    cause,
                });
            }
        }
        EntryContent::Records(_) => {
            found.bytes += entry.data.len() as u64;
            let (head, body) = EntryHead::decode(&entry.data).map_err(|error| error.to_string())?;
            let mut at = 0;
            let mut wrong = None;
            for batch in &head.batches {
                let bytes = &body[at..at + batch.bytes as usize];
                at += batch.bytes as usize;
                let there = records::count(bytes);
                found.records += there.as_ref().map_or(0, |there| *there);
                let sound = records::check_crc(bytes, Some(batch.crc))
                    .and(there)
                    .and_then(|there| records::check_count(there, Some(batch.count.into())));
                wrong = wrong.or(sound.err().map(|error| format!("is damaged: {error}")));
            }
            let told = (head.first_offset, u64::from(head.count()));
            if told != (entry.first_offset, u64::from(entry.count)) {
                wrong.get_or_insert("says other offsets than its place in the log".to_owned());
            }
            return wrong.map_or(Ok(()), Err);
        }
    }
    match entry.count {
        0 => Ok(()),
        count => Err(format!("holds no record and takes {count} offsets")),
    }
}
