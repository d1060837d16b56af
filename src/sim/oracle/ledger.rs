//! The books balance at every look: what a node received is accepted, repeated, refused, pending or
//! unknown; what matched a signal subscription was delivered or dropped; what a partition accepted
//! is retained or trimmed; what a cursor was offered is acked, waits or was missed.

use super::{Verdict, broken};
use crate::node::{CursorView, NodeView, TrimmedView};

/// Whether the node's account adds up.
pub(in crate::sim) fn check(view: &NodeView) -> Verdict {
    for (channel, account) in &view.channels {
        let decided = account.accepted + account.repeated + account.refused;
        let sum = decided + account.pending + account.unknown;
        if account.received != sum || account.matched != account.delivered + account.dropped {
            return broken(
                "the ledger balances",
                None,
                format!(
                    "node {} on {channel}: received {} = accepted {} + repeated {} + refused {} + \
                     pending {} + unknown {}; matched {} = delivered {} + dropped {}",
                    view.node,
                    account.received,
                    account.accepted,
                    account.repeated,
                    account.refused,
                    account.pending,
                    account.unknown,
                    account.matched,
                    account.delivered,
                    account.dropped
                ),
            );
        }
    }
    for held in &view.partitions {
        let TrimmedView { age, size, count } = held.trimmed;
        if held.first_offset != age + size + count || held.first_offset > held.next_offset {
            let says = format!(
                "node {} on {}/{}: accepted {}, retained from {}, trimmed by age {age}, by size \
                 {size}, by count {count}",
                view.node, held.channel, held.partition, held.next_offset, held.first_offset
            );
            return broken("the ledger balances", None, says);
        }
        for cursor in &held.cursors {
            let CursorView {
                name,
                offered,
                acked,
                waiting,
                missed,
                ..
            } = cursor;
            if *offered != acked + waiting + missed {
                let says = format!(
                    "node {} on the cursor {name} of {}/{}: offered {offered}, acked {acked}, \
                     waiting {waiting}, missed {missed}",
                    view.node, held.channel, held.partition
                );
                return broken("the ledger balances", None, says);
            }
        }
    }
    Ok(())
}
