//! Cursors: acks of what a subscription delivered, and moving a cursor from outside.

use tokio::sync::oneshot;

use crate::types::{ChannelName, Span, Time};
use crate::wire::client::{self, Ack, CursorReply, Delete, Refuse, Request, Seek};

use super::error::{ClientError, Refusal};
use super::handle::Client;
use super::link::Answer;
use super::options::Start;
use super::session::{Command, Session, Told};
use super::subscription::{Delivered, Subscription};

/// How long a question about a cursor may take; nodes answer within 5 s.
const ANSWER_TIMEOUT: Span = Span::from_secs(10);

/// A question that waits to be answered by `cursor`, under its `request` or `id`.
#[derive(Debug)]
pub(super) struct CursorQuestion {
    ticket: u64,
    since: Time,
}

impl Subscription {
    /// Tells that this record is done with. It does not wait: an ack that is lost on its way means
    /// that the record is delivered again, to whoever holds the cursor then.
    ///
    /// # Errors
    /// [`ClientError::NoCursor`] if the record did not come by a cursor; [`ClientError::Closed`].
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::Record;
    /// use weft::client::{Item, Start, Wanted};
    ///
    /// client.publish(&Record::new("orders.eu.new", "a hat")).await?;
    /// let mut orders = client
    ///     .subscribe(Wanted {
    ///         cursor: Some("billing".to_owned()),
    ///         ..Wanted::new("orders.#", Start::Start)
    ///     })
    ///     .await?;
    /// if let Some(Item::Record(order)) = orders.next().await.transpose()? {
    ///     orders.ack(&order)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn ack(&self, delivered: &Delivered) -> Result<(), ClientError> {
        let mut ack = self.ack_of(delivered)?;
        ack.first = Some(ack.offset);
        let command = Command::Ack { ack, ticket: None };
        self.link.order(command, None)
    }

    /// Tells that this record and all before it in its partition are done with, and waits until
    /// that is committed.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the cursor has another holder by now; [`ClientError::NoAnswer`]
    /// and [`ClientError::Unanswered`] if it is not known: what it was for is delivered again if
    /// it was lost.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::Record;
    /// use weft::client::{Item, Start, Wanted};
    ///
    /// client.publish(&Record::new("orders.eu.new", "a hat")).await?;
    /// let mut orders = client
    ///     .subscribe(Wanted {
    ///         cursor: Some("billing".to_owned()),
    ///         ..Wanted::new("orders.#", Start::Start)
    ///     })
    ///     .await?;
    /// if let Some(Item::Record(order)) = orders.next().await.transpose()? {
    ///     orders.commit(&order).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn commit(&self, delivered: &Delivered) -> Result<(), ClientError> {
        let ack = self.ack_of(delivered)?;
        let ticket = self.link.next();
        let (sender, receiver) = oneshot::channel();
        let command = Command::Ack {
            ack,
            ticket: Some(ticket),
        };
        self.link
            .order(command, Some(Answer::Cursor(ticket, sender)))?;
        let answer = receiver.await.unwrap_or(Err(ClientError::Closed));
        answer.map(drop)
    }

    fn ack_of(&self, delivered: &Delivered) -> Result<Ack, ClientError> {
        let (Some(id), Some(token)) = (&delivered.id, delivered.token) else {
            return Err(ClientError::NoCursor);
        };
        Ok(Ack {
            id: self.reader,
            channel: Some(id.partition.channel.clone()),
            partition: id.partition.number,
            offset: id.offset,
            token: Some(token),
            ..Ack::default()
        })
    }
}

impl Client {
    /// Moves a cursor of one partition. Whoever holds it goes on there, or is told that it is over.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the node's reason.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::client::{Start, Wanted};
    ///
    /// let wanted = Wanted {
    ///     cursor: Some("billing".to_owned()),
    ///     ..Wanted::new("orders.#", Start::End)
    /// };
    /// let orders = client.subscribe(wanted).await?;
    /// let channel = "orders".into();
    /// let cursor = client.seek_cursor(&channel, 0, "billing", Start::Start).await?;
    /// assert_eq!(cursor.positions[0].floor, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn seek_cursor(
        &self,
        channel: &ChannelName,
        partition: u32,
        cursor: &str,
        to: Start,
    ) -> Result<CursorReply, ClientError> {
        let request = Request::Seek(Seek {
            id: None,
            channel: channel.clone(),
            cursor: cursor.to_owned(),
            partition: Some(partition),
            to: client::From::from(to),
        });
        self.move_cursor(request).await
    }

    /// Deletes a cursor of one partition.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the node's reason.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (_folder, _node, client) = client().await;
    /// use weft::client::{Start, Wanted};
    ///
    /// let wanted = Wanted {
    ///     cursor: Some("billing".to_owned()),
    ///     ..Wanted::new("orders.#", Start::End)
    /// };
    /// let orders = client.subscribe(wanted).await?;
    /// client.delete_cursor(&"orders".into(), 0, "billing").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_cursor(
        &self,
        channel: &ChannelName,
        partition: u32,
        cursor: &str,
    ) -> Result<CursorReply, ClientError> {
        let request = Request::Delete(Delete {
            id: None,
            channel: channel.clone(),
            cursor: cursor.to_owned(),
            partition: Some(partition),
        });
        self.move_cursor(request).await
    }

    async fn move_cursor(&self, request: Request) -> Result<CursorReply, ClientError> {
        let ticket = self.link.next();
        let (sender, receiver) = oneshot::channel();
        let command = Command::Move { ticket, request };
        self.link
            .order(command, Some(Answer::Cursor(ticket, sender)))?;
        receiver.await.unwrap_or(Err(ClientError::Closed))
    }
}

impl Session {
    pub(super) fn ack(&mut self, mut ack: Ack, ticket: Option<u64>, now: Time) {
        if let Some(ticket) = ticket {
            ack.request = Some(self.question(ticket, now));
        }
        match self.connection.is_ready() {
            true => self.send(&Request::Ack(ack)),
            // What was delivered by the node that is lost is delivered again.
            false => self.lose_questions(),
        }
    }

    pub(super) fn move_cursor(&mut self, ticket: u64, mut request: Request, now: Time) {
        let number = Some(self.question(ticket, now));
        match &mut request {
            Request::Seek(seek) => seek.id = number,
            Request::Delete(delete) => delete.id = number,
            _ => {}
        }
        match self.connection.is_ready() {
            true => self.send(&request),
            false => self.lose_questions(),
        }
    }

    pub(super) fn handle_cursor(&mut self, reply: CursorReply) {
        if let Some(number) = reply.request.or(reply.id) {
            self.answer_question(number, Ok(reply));
        }
    }

    /// True if it was the answer to a question.
    pub(super) fn handle_refused_question(&mut self, refuse: &Refuse) -> bool {
        let asked = |number: &u64| self.cursor_questions.contains_key(number);
        let number = refuse.request.or(refuse.id).filter(asked);
        if let Some(number) = number {
            self.answer_question(number, Err(Refusal::from(refuse).into()));
        }
        number.is_some() || refuse.request.is_some()
    }

    /// The node is lost, and nobody will answer.
    pub(super) fn lose_questions(&mut self) {
        for number in self.cursor_questions.keys().copied().collect::<Vec<_>>() {
            self.answer_question(number, Err(ClientError::Unanswered));
        }
    }

    pub(super) fn expire_questions(&mut self, now: Time) {
        let late = |question: &CursorQuestion| now.since(question.since) >= ANSWER_TIMEOUT;
        let questions = self.cursor_questions.iter();
        let late = questions.filter(|(_, question)| late(question));
        for number in late.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.answer_question(number, Err(ClientError::NoAnswer(ANSWER_TIMEOUT)));
        }
    }

    fn question(&mut self, ticket: u64, now: Time) -> u64 {
        self.next_id += 1;
        self.cursor_questions
            .insert(self.next_id, CursorQuestion { ticket, since: now });
        self.next_id
    }

    fn answer_question(&mut self, number: u64, result: Result<CursorReply, ClientError>) {
        if let Some(CursorQuestion { ticket, .. }) = self.cursor_questions.remove(&number) {
            self.tell(Told::Cursor { ticket, result });
        }
    }
}
