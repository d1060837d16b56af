//! The trouble that a drill makes: leaders killed, nodes cut off, links cut one way; and what it
//! says about it meanwhile.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fabric::Fabric;
use super::load::Load;
use super::proxy::Link;
use crate::cli::Failure;
use crate::cli::health::Health;

/// How often everything is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// From one kill to the next; halfway between them links are cut.
const KILL_EVERY: Duration = Duration::from_secs(4);

/// How long a killed node stays dead, in milliseconds.
const DEAD_MS: std::ops::Range<u64> = 100..1_200;

/// How long links stay cut, in milliseconds.
const CUT_MS: std::ops::Range<u64> = 300..1_800;

/// Nodes that ended by themselves before the drill is given up.
const DEATHS_MAX: usize = 5;

/// What was done so far, and seen.
pub(super) struct Trouble {
    pub(super) kills: u64,
    pub(super) cuts: u64,
    /// The longest time without any confirm.
    pub(super) longest_pause: Duration,
    /// Nodes that ended and were not killed.
    pub(super) deaths: Vec<String>,
    random: ChaCha8Rng,
    began: Instant,
    /// Links that are cut, and when they are healed.
    cut: Option<(Instant, Vec<Arc<Link>>)>,
    confirmed: u64,
    confirmed_at: Instant,
    bar: ProgressBar,
}

impl Trouble {
    pub(super) fn new() -> Self {
        let began = Instant::now();
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            kills: 0,
            cuts: 0,
            longest_pause: Duration::ZERO,
            deaths: Vec::new(),
            // Real processes do not replay, so there is no seed to tell. The simulator's do.
            random: ChaCha8Rng::seed_from_u64(nanos.map_or(0, |n| n.as_nanos() as u64)),
            began,
            cut: None,
            confirmed: 0,
            confirmed_at: began,
            bar: ProgressBar::no_length(),
        }
    }

    /// Makes trouble for this long, or until `ended`; then heals everything.
    pub(super) fn make(
        &mut self,
        fabric: &mut Fabric,
        load: &Load,
        time: Duration,
        ended: &AtomicBool,
    ) -> Result<(), Failure> {
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} s  {msg}");
        self.bar = ProgressBar::new(time.as_secs());
        self.bar
            .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.began = Instant::now();
        self.confirmed_at = self.began;
        let mut next_kill = self.began + KILL_EVERY / 2;
        let mut next_cut = next_kill + KILL_EVERY / 2;
        while self.began.elapsed() < time && !ended.load(Ordering::Acquire) {
            self.look_after(fabric)?;
            self.watch(load);
            let now = Instant::now();
            if now >= next_kill && self.kill_a_leader(fabric) {
                next_kill = now + KILL_EVERY;
            }
            if now >= next_cut {
                self.cut_links(fabric);
                next_cut = now + KILL_EVERY;
            }
            if self.cut.as_ref().is_some_and(|(until, _)| *until <= now) {
                self.heal();
            }
            thread::sleep(LOOK_EVERY);
        }
        self.heal();
        self.bar.finish_and_clear();
        Ok(())
    }

    /// Starts nodes again: those whose time has come, and those that ended although nobody killed
    /// them.
    ///
    /// # Errors
    /// If nodes end by themselves again and again.
    pub(super) fn look_after(&mut self, fabric: &mut Fabric) -> Result<(), Failure> {
        for node in &mut fabric.nodes {
            if let Some(status) = node.take_death() {
                let text = format!("node {} ended by itself: {status}", node.name);
                self.say(&text);
                self.deaths.push(text);
                if self.deaths.len() > DEATHS_MAX {
                    let what = format!("nodes end by themselves: {}", self.deaths.join("; "));
                    return Err(Failure::user(what, "see the logs of the nodes"));
                }
                node.start()?;
            }
            if node.start_if_due()?.is_some() {
                self.say(&format!("node {} is started again", node.name));
            }
        }
        Ok(())
    }

    fn watch(&mut self, load: &Load) {
        let (confirmed, unknown) = load.so_far();
        if confirmed > self.confirmed {
            self.longest_pause = self.longest_pause.max(self.confirmed_at.elapsed());
            (self.confirmed, self.confirmed_at) = (confirmed, Instant::now());
        }
        self.bar.set_position(self.began.elapsed().as_secs());
        self.bar.set_message(format!(
            "{confirmed} confirmed  {unknown} unknown  {} kills  {} cuts",
            self.kills, self.cuts
        ));
    }

    /// Kills a node that leads something; says whether one was found.
    fn kill_a_leader(&mut self, fabric: &mut Fabric) -> bool {
        let health = Health::gather(&fabric.resolved);
        let partitions = health.partitions();
        let leaders: BTreeSet<&str> = partitions.values().filter_map(|p| p.leader).collect();
        if leaders.is_empty() {
            return false;
        }
        let chosen = self.random.gen_range(0..leaders.len());
        let Some(name) = leaders.into_iter().nth(chosen) else {
            return false;
        };
        let leads = partitions
            .iter()
            .filter(|(_, partition)| partition.leader == Some(name))
            .map(|((channel, number), _)| format!("{channel}/{number}"));
        let leads = leads.collect::<Vec<_>>().join(" ");
        let Some(node) = fabric.nodes.iter_mut().find(|node| node.name == name) else {
            return false;
        };
        if !node.is_running() {
            return false;
        }
        node.kill(Duration::from_millis(self.random.gen_range(DEAD_MS)));
        self.kills += 1;
        self.say(&format!("killed node {name}, which led {leads}"));
        true
    }

    /// Cuts one node off, or two nodes from each other, or one way between them.
    fn cut_links(&mut self, fabric: &Fabric) {
        let names: Vec<&String> = fabric.nodes.iter().map(|node| &node.name).collect();
        if names.len() < 2 || self.cut.is_some() {
            return;
        }
        let from = self.random.gen_range(0..names.len());
        let to = (from + self.random.gen_range(1..names.len())) % names.len();
        let (from, to) = (names[from], names[to]);
        let kind = self.random.gen_range(0..3);
        let among = |(speaker, hearer): &(String, String)| match kind {
            0 => speaker == from || hearer == from,
            1 => [(from, to), (to, from)].contains(&(speaker, hearer)),
            _ => speaker == from && hearer == to,
        };
        let ways = fabric.links.iter().filter(|(way, _)| among(way));
        let links: Vec<Arc<Link>> = ways.flat_map(|(_, links)| links.clone()).collect();
        for link in &links {
            link.cut();
        }
        let ms = self.random.gen_range(CUT_MS);
        self.cut = Some((Instant::now() + Duration::from_millis(ms), links));
        self.cuts += 1;
        self.say(&match kind {
            0 => format!("cut node {from} off for {ms} ms"),
            1 => format!("cut {from} and {to} apart for {ms} ms"),
            _ => format!("cut what {from} says to {to} for {ms} ms"),
        });
    }

    fn heal(&mut self) {
        if let Some((_, links)) = self.cut.take() {
            let reset = self.random.gen_bool(0.5);
            for link in links {
                link.heal(reset);
            }
        }
    }

    /// To stderr, with the time since the trouble began.
    fn say(&self, text: &str) {
        let line = format!("{:6.1} s  {text}", self.began.elapsed().as_secs_f64());
        self.bar.suspend(|| {
            // A closed terminal ends no drill.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }
}
