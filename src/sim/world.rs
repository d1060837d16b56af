//! One run: the machines, the network between them, the clients, the faults, and the loop that
//! takes one event after the other until all is over.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::client::{Act, Client, Desk, Mood, Scene, cast};
use super::dice::Dice;
use super::faults::Faults;
use super::heap::{ClientNo, ConnectionId, Event, Heap};
use super::machine::{Machine, MachineId};
use super::network::{Network, Road};
use super::oracle::retention::Retention;
use super::oracle::{Oracles, Verdict, Violation, broken, ledger};
use super::report::{Failure, Report};
use super::story::Story;
use super::{Settings, oracle};
use crate::node::{ClientId, Input};
use crate::topology::Topology;
use crate::types::limits::TICK;
use crate::types::{NodeName, Span, Time};
use crate::wire::{Payload, decode_reply};

/// How often the books are looked at.
const AUDIT: Span = Span::from_millis(250);

/// A run that needs more simulated time than this stands still.
const STORM_MAX: Span = Span::from_secs(3_600);

/// One run.
pub(super) struct World {
    pub(super) topology: Arc<Topology>,
    steps: u64,
    publishes: u64,
    pub(super) heap: Heap,
    pub(super) dice: Dice,
    pub(super) machines: Vec<Machine>,
    pub(super) by_name: BTreeMap<NodeName, MachineId>,
    pub(super) network: Network,
    pub(super) faults: Faults,
    clients: Vec<Option<Box<dyn Client>>>,
    scene: Scene,
    pub(super) seats: Vec<Option<ConnectionId>>,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    connected: ConnectionId,
    pub(super) mood: Mood,
    pub(super) oracles: Oracles,
    pub(super) report: Report,
    pub(super) story: Story,
}

/// A client's connection to a machine in one of its lives.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: ClientNo,
    pub(super) machine: MachineId,
    pub(super) life: u64,
    pub(super) id: ClientId,
    /// Whether an empty frame goes before each message, as REQ does it.
    delimited: bool,
    /// Whether the client still holds its end.
    pub(super) held: bool,
    /// When the last frame arrives, each way: they keep their order.
    there: Time,
    pub(super) back: Time,
}

impl World {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut dice = Dice::new(settings.seed, 0);
        let own = || Arc::new(super::topology(settings.seed));
        let topology = settings.topology.clone().unwrap_or_else(own);
        let scene = Scene::new(&topology);
        let nodes = topology.nodes.iter();
        let machines: Vec<Machine> = nodes
            .map(|node| Machine::new(node.name.clone(), &mut dice))
            .collect();
        let by_name = machines.iter().enumerate();
        let by_name = by_name
            .map(|(id, machine)| (machine.name.clone(), id))
            .collect();
        let clients: Vec<_> = cast(&scene).into_iter().map(Some).collect();
        Self {
            steps: settings.steps,
            publishes: settings.publishes.max(1),
            heap: Heap::default(),
            faults: Faults::new(settings.seed, machines.len()),
            dice,
            machines,
            by_name,
            network: Network::default(),
            seats: vec![None; clients.len()],
            clients,
            scene,
            connections: BTreeMap::new(),
            connected: 0,
            mood: Mood::Storm,
            oracles: Oracles {
                retention: Retention::new(&topology),
                ..Oracles::default()
            },
            report: Report::new(settings.seed),
            story: Story::new(),
            topology,
        }
    }

    /// Lives from the first start to the last audit.
    pub(super) fn live(mut self) -> Report {
        let verdict = self.storm().and_then(|()| self.settle());
        self.report.trims = self.oracles.retention.trims;
        self.report.forgotten = self.oracles.retention.forgotten;
        self.report.cursors_taken = self.oracles.cursors.taken;
        self.report.acked = self.oracles.cursors.acked;
        self.report.simulated_ms = self.heap.now().0 / 1_000_000;
        if let Err(Violation {
            oracle,
            says,
            partition,
        }) = verdict
        {
            self.report.failure = Some(Failure {
                oracle,
                says,
                story: self.story.told(partition.as_ref()),
            });
        }
        self.report.trace = self.story.digest();
        self.report
    }

    fn storm(&mut self) -> Verdict {
        for machine in 0..self.machines.len() {
            let life = self.machines[machine].life;
            let delay = self.dice.millis(0, 500);
            self.heap.after(delay, Event::Start { machine, life });
        }
        for client in 0..self.clients.len() {
            let delay = self.dice.millis(100, 1_500);
            self.heap.after(delay, Event::Wake { client });
        }
        self.heap.after(Span::from_millis(500), Event::Fault);
        self.heap.after(AUDIT, Event::Audit);
        while self.report.steps < self.steps || self.report.publishes < self.publishes {
            self.turn()?;
            if self.heap.now() > Time(0) + STORM_MAX {
                let says = format!(
                    "{} steps and {} publishes in an hour of simulated time",
                    self.report.steps, self.report.publishes
                );
                return broken("the workload goes on", None, says);
            }
        }
        Ok(())
    }

    /// Takes the next event.
    pub(super) fn turn(&mut self) -> Verdict {
        // Audits and ticks plan their successors, so there always is one.
        let Some(event) = self.heap.next() else {
            return broken("the workload goes on", None, "nothing is going to happen");
        };
        self.oracles.now = self.heap.now();
        match event {
            Event::Tick { machine, life } => self.tick(machine, life),
            Event::Peer { to, lane, frame } => {
                self.story.hash(self.heap.now(), 2 + lane as u64, &frame);
                let principal = None;
                self.step(to, Input::PeerFrame { principal, frame })
            }
            Event::Request { connection, frame } => self.request(connection, frame),
            Event::Reply { connection, frames } => self.reply(connection, &frames),
            Event::Gone { connection } => self.gone(connection),
            Event::Dropped { connection, what } => {
                let Some(found) = self.connections.get(&connection) else {
                    return Ok(());
                };
                let (machine, client) = (found.machine, found.id.clone());
                match self.machines[machine].life == found.life {
                    true => self.step(machine, Input::Dropped { client, what }),
                    false => Ok(()),
                }
            }
            Event::Lost { connection } => {
                self.let_go(connection);
                Ok(())
            }
            Event::Wake { client } => self.wake(client),
            Event::Write { machine, life } => self.write(machine, life),
            Event::Sync { machine, life } => self.sync(machine, life),
            Event::Load {
                machine,
                life,
                request,
            } => self.load(machine, life, &request),
            Event::Scrub { machine, life } => self.scrub(machine, life),
            Event::Mend {
                machine,
                life,
                mend,
            } => self.mend((machine, life), &mend),
            Event::Topic {
                from,
                life,
                to,
                topic,
                wanted,
            } => self.topic((from, life), to, topic, wanted),
            Event::Topics { from, to } => self.topics(from, to),
            Event::Signal {
                from,
                to,
                topic,
                frame,
                lost,
            } => self.signal_arrives(from, to, (topic, frame), lost),
            Event::GivenUp { machine, life } => self.give_up(machine, life),
            Event::Thaw { machine, life } => self.thaw(machine, life),
            Event::Start { machine, life } => self.start(machine, life),
            Event::Fault => self.next_fault(),
            Event::FaultEnds { number } => {
                self.end_fault(number);
                Ok(())
            }
            Event::Audit => self.audit(),
        }
    }

    /// Something happens to a node: it steps, or takes it together with what comes a little later.
    pub(super) fn step(&mut self, machine: MachineId, input: Input) -> Verdict {
        let life = self.machines[machine].life;
        let Some(running) = &mut self.machines[machine].running else {
            return Ok(());
        };
        if let Some(waiting) = &mut running.frozen {
            waiting.push(input);
            return Ok(());
        }
        if self.dice.chance(50) {
            running.frozen = Some(vec![input]);
            let delay = self.dice.micros(10, 2_000);
            self.heap.after(delay, Event::Thaw { machine, life });
            return Ok(());
        }
        self.step_all(machine, vec![input])
    }

    /// One step of one node.
    pub(super) fn step_all(&mut self, machine: MachineId, inputs: Vec<Input>) -> Verdict {
        let now = self.machines[machine].clock.read(self.heap.now());
        let mut outbox = Vec::new();
        let given_back = self.gives_back(machine, &inputs);
        let Some(running) = &mut self.machines[machine].running else {
            return Ok(());
        };
        self.report.steps += 1;
        running.node.step(now, inputs, &mut outbox);
        let done = self.execute(machine, outbox);
        for (key, bytes) in given_back {
            self.oracles.signals.freed(key, bytes);
        }
        done
    }

    /// Tells the story's reader what happened to a machine.
    pub(super) fn tell(&mut self, machine: MachineId, text: impl Into<String>) {
        let name = &self.machines[machine].name;
        self.story
            .tell(self.heap.now(), name.as_str(), None, text.into());
    }

    fn tick(&mut self, machine: MachineId, life: u64) -> Verdict {
        let found = &self.machines[machine];
        if found.life != life {
            return Ok(());
        }
        let next = found.clock.truly(TICK);
        self.heap.after(next, Event::Tick { machine, life });
        let frozen = |machine: &Machine| {
            let running = machine.running.as_ref();
            running.is_some_and(|running| running.frozen.is_some())
        };
        if frozen(found) {
            return Ok(());
        }
        if self.dice.chance(50)
            && let Some(running) = &self.machines[machine].running
        {
            let mut gauges = running.gauges();
            if self.machines[machine].full {
                gauges.disk_free = 0;
            }
            self.step(machine, Input::Gauges(gauges))?;
        }
        self.step(machine, Input::Tick)
    }

    fn request(&mut self, connection: ConnectionId, frame: Bytes) -> Verdict {
        let Some(found) = self.connections.get(&connection) else {
            return Ok(());
        };
        let (machine, life) = (found.machine, found.life);
        if self.machines[machine].life != life || self.machines[machine].running.is_none() {
            return Ok(());
        }
        self.story.hash(self.heap.now(), 10, &frame);
        let input = Input::ClientFrame {
            client: found.id.clone(),
            principal: None,
            frames: match found.delimited {
                true => vec![Bytes::new(), frame],
                false => vec![frame],
            },
        };
        self.step(machine, input)
    }

    fn reply(&mut self, connection: ConnectionId, frames: &[Bytes]) -> Verdict {
        const ORACLE: &str = "what a node says is well formed";
        let Some(found) = self.connections.get(&connection) else {
            return Ok(());
        };
        if !found.held {
            return Ok(());
        }
        let (client, delimited) = (found.client, found.delimited);
        let message = match Payload::of(frames) {
            Ok(payload) if payload.delimited == delimited => decode_reply(payload.frame),
            _ => return broken(ORACLE, None, format!("a reply of {} frames", frames.len())),
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => return broken(ORACLE, None, format!("a reply: {error}")),
        };
        self.with_client(client, |actor, desk| {
            actor.reply(desk, message.header, message.records)
        })
    }

    fn gone(&mut self, connection: ConnectionId) -> Verdict {
        let Some(found) = self.connections.remove(&connection) else {
            return Ok(());
        };
        if self.machines[found.machine].life != found.life {
            return Ok(());
        }
        self.step(found.machine, Input::ClientGone { client: found.id })
    }

    fn wake(&mut self, client: ClientNo) -> Verdict {
        let next = self.with_client(client, |actor, desk| actor.wake(desk))?;
        self.heap.after(next, Event::Wake { client });
        Ok(())
    }

    /// The client's end of a connection is closed, by it or under it.
    pub(super) fn let_go(&mut self, connection: ConnectionId) {
        let Some(found) = self.connections.get_mut(&connection) else {
            return;
        };
        if !found.held {
            return;
        }
        found.held = false;
        let (client, machine, life) = (found.client, found.machine, found.life);
        self.oracles.silence.ended(connection);
        self.seats[client] = None;
        let lost = self.with_client(client, |actor, desk| {
            actor.lost(desk);
            Ok(())
        });
        debug_assert!(lost.is_ok(), "losing a connection breaks no promise");
        if self.machines[machine].life != life {
            self.connections.remove(&connection);
        } else if self.dice.chance(500) {
            // Else the node finds out when it sends.
            let delay = self.dice.millis(1, 3_000);
            self.heap.after(delay, Event::Gone { connection });
        }
    }

    fn connect(&mut self, client: ClientNo) {
        if let Some(connection) = self.seats[client] {
            self.let_go(connection);
        }
        let machine = self.dice.below(self.machines.len());
        self.connected += 1;
        let connection = self.connected;
        let found = &self.machines[machine];
        let routing = [&[0], connection.to_be_bytes().as_slice()].concat();
        let delimited = self.dice.chance(100);
        self.connections.insert(
            connection,
            Connection {
                client,
                machine,
                life: found.life,
                id: ClientId {
                    listener: 0,
                    routing: routing.into(),
                },
                delimited,
                held: true,
                there: self.heap.now(),
                back: self.heap.now(),
            },
        );
        self.seats[client] = Some(connection);
        if found.running.is_none() {
            // Nobody listens there; the client will try another.
            let delay = self.dice.millis(50, 500);
            self.heap.after(delay, Event::Lost { connection });
        }
        let connected = self.with_client(client, |actor, desk| {
            actor.connected(desk);
            Ok(())
        });
        debug_assert!(connected.is_ok(), "connecting breaks no promise");
    }

    /// Lets a client act and does what it wants.
    fn with_client<T>(
        &mut self,
        client: ClientNo,
        act: impl FnOnce(&mut dyn Client, &mut Desk<'_>) -> Verdict<T>,
    ) -> Verdict<T> {
        let Some(mut actor) = self.clients[client].take() else {
            unreachable!("a client that acts is not asked to act");
        };
        let home = self.seats[client].and_then(|seat| self.connections.get(&seat));
        let home = home.map_or((0, 0), |seat| (seat.machine, seat.life));
        let behind = self.report.publishes * self.steps < self.report.steps * self.publishes;
        let mut desk = Desk {
            me: client,
            now: self.heap.now(),
            wall: self.machines[0].clock.read(self.heap.now()).wall,
            mood: self.mood,
            hurry: behind,
            connection: self.seats[client],
            home,
            scene: &self.scene,
            dice: &mut self.dice,
            oracles: &mut self.oracles,
            report: &mut self.report,
            story: &mut self.story,
            acts: Vec::new(),
        };
        let done = act(actor.as_mut(), &mut desk);
        let acts = desk.acts;
        self.clients[client] = Some(actor);
        for act in acts {
            match act {
                Act::Send(frame) => self.send_request(client, frame),
                Act::Connect => self.connect(client),
            }
        }
        done
    }

    fn send_request(&mut self, client: ClientNo, frame: Bytes) {
        let Some(connection) = self.seats[client] else {
            return;
        };
        let delay = self.dice.micros(50, 1_000);
        if let Some(found) = self.connections.get_mut(&connection) {
            found.there = (self.heap.now() + delay).max(found.there);
            let arrival = found.there;
            self.heap.at(arrival, Event::Request { connection, frame });
        }
    }

    fn audit(&mut self) -> Verdict {
        self.heap.after(AUDIT, Event::Audit);
        self.oracles.silence.check(self.heap.now())?;
        self.note_replaced();
        self.lose_folder()?;
        self.rot()?;
        for machine in &self.machines {
            if let Some(running) = &machine.running {
                ledger::check(&running.node.view())?;
            }
        }
        self.check_stops()
    }

    /// What the clients still wait for.
    pub(super) fn clients_lack(&self) -> Option<String> {
        let mut clients = self.clients.iter().enumerate();
        clients.find_map(|(me, client)| {
            let client = client.as_ref()?;
            client.lacks(me, &self.scene, &self.oracles)
        })
    }

    /// Says whether frames pass between two machines on a road, both ways.
    pub(super) fn is_joined(&self, a: MachineId, b: MachineId, road: Road) -> bool {
        self.network.is_open(a, b, road) && self.network.is_open(b, a, road)
    }
}

/// A machine's name and life, for the story.
pub(super) type Life = oracle::signals::Life;
