//! The thread that speaks MPI.

use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ::mpi::Threading;
use ::mpi::point_to_point::{Destination, Source};
use ::mpi::request::{Request, Scope, scope};
use ::mpi::topology::{Communicator, SimpleCommunicator};
use ::mpi::traits::Equivalence;

/// What the courier is told to do; nothing more when the line is closed.
pub(super) enum Order {
    Exchange(Vec<Vec<u8>>),
    Fail(String),
}

/// What all ranks have given, or the one that is lost and why.
pub(super) type Answer = Result<Vec<Vec<u8>>, (usize, String)>;

/// Kinds of messages: of an exchange; `are you there`; whether one waits itself; one that is lost; the end of rank 0.
const DATA: i32 = 1;
const ASK: i32 = 2;
const HERE: i32 = 3;
const LOST: i32 = 4;
const LEAVE: i32 = 5;

/// How long the answer to a question may take.
const GRACE: Duration = Duration::from_secs(5);
/// How long the others wait for rank 0 to save what there is.
const RESCUE: Duration = Duration::from_secs(120);
/// How often messages are looked for while there is nothing to do.
const IDLE: Duration = Duration::from_millis(2);

struct Courier {
    world: Rc<SimpleCommunicator>,
    rank: usize,
    size: usize,
    patience: Duration,
    lost: Option<(usize, String)>,
    /// What each rank has answered since it was asked last: whether it waits.
    heard: Vec<Option<bool>>,
    /// Whether rank 0 needs nobody any more.
    left: bool,
}

/// Carries messages until the line is closed. `ended` goes when the process may end.
pub(super) fn carry(
    patience: Duration,
    hello: &Sender<(usize, usize)>,
    orders: &Receiver<Order>,
    answers: &Sender<Answer>,
    ended: Sender<()>,
) {
    // no other thread of the process speaks MPI
    let Some((universe, _)) = ::mpi::initialize_with_threading(Threading::Funneled) else {
        return;
    };
    let world = universe.world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let mut courier = Courier {
        world: Rc::new(world),
        rank,
        size,
        patience,
        lost: None,
        heard: vec![None; size],
        left: false,
    };
    if hello.send((rank, size)).is_err() {
        return;
    }
    loop {
        match orders.recv_timeout(IDLE) {
            Ok(Order::Exchange(parts)) => {
                let answer = match courier.lost.clone() {
                    Some(lost) => Err(lost),
                    None => Ok(courier.exchange(&parts, orders, answers, &ended)),
                };
                if answers.send(answer).is_err() {
                    break;
                }
            }
            Ok(Order::Fail(why)) => courier.lose(rank, &why),
            Err(RecvTimeoutError::Timeout) => courier.listen(false),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if courier.lost.is_some() {
        courier.part();
        // its end waits for ranks that may not come
        std::mem::forget(universe);
    }
    drop(ended);
}

impl Courier {
    /// What all have given. If a rank is lost it says so and never returns: messages are still on their way, and only the
    /// end of the process takes them back.
    fn exchange(
        &mut self,
        parts: &[Vec<u8>],
        orders: &Receiver<Order>,
        answers: &Sender<Answer>,
        ended: &Sender<()>,
    ) -> Vec<Vec<u8>> {
        let mut given = vec![Vec::new(); self.size];
        given[self.rank].clone_from(&parts[self.rank]);
        let world = self.world.clone();
        scope(|scope| {
            let mut sends = Vec::new();
            for (to, part) in parts.iter().enumerate().filter(|&(to, _)| to != self.rank) {
                let process = world.process_at_rank(to as i32);
                let send = process.immediate_send_with_tag(scope, &part[..], DATA);
                sends.push((to, send));
            }
            let mut open: Vec<_> = given.iter_mut().enumerate().collect();
            open.retain(|(from, _)| *from != self.rank);
            let mut receives = Vec::new();
            let mut rest = Rest::default();
            let mut late = Late::new(self.patience);
            loop {
                let mut still_open = Vec::new();
                for (from, buffer) in open {
                    let source = world.process_at_rank(from as i32);
                    match source.immediate_matched_probe_with_tag(DATA) {
                        Some((message, status)) => {
                            buffer.resize(status.count(u8::equivalent_datatype()) as usize, 0);
                            let receive =
                                message.immediate_matched_receive_into(scope, &mut buffer[..]);
                            receives.push((from, receive));
                            rest = Rest::default();
                        }
                        None => still_open.push((from, buffer)),
                    }
                }
                open = still_open;
                sends = pending(sends);
                receives = pending(receives);
                if open.is_empty() && sends.is_empty() && receives.is_empty() {
                    break;
                }
                self.listen(true);
                let mut missing: Vec<usize> = open.iter().map(|&(from, _)| from).collect();
                let half_done = sends.iter().map(|(rank, _)| rank);
                missing.extend(half_done.chain(receives.iter().map(|(rank, _)| rank)));
                if self.lost.is_none() {
                    late.look(self, &missing);
                }
                if let Some(lost) = self.lost.clone() {
                    // a rank that has gone away itself waits for no answer
                    let _ = answers.send(Err(lost));
                    self.wait_for_end(orders);
                    ended.send(()).ok();
                    loop {
                        self.listen(true);
                        std::thread::sleep(IDLE);
                    }
                }
                rest.take();
            }
        });
        given
    }

    /// Until nothing is asked any more, after a loss in an exchange.
    fn wait_for_end(&mut self, orders: &Receiver<Order>) {
        loop {
            self.listen(true);
            match orders.recv_timeout(IDLE) {
                Err(RecvTimeoutError::Disconnected) => return self.part(),
                // whoever is lost was told already
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Reads what is no part of an exchange; `waiting`: whether this rank is in one.
    fn listen(&mut self, waiting: bool) {
        let (world, me) = (self.world.clone(), self.rank);
        for other in (0..self.size).filter(|&other| other != me) {
            let process = world.process_at_rank(other as i32);
            for tag in [ASK, HERE, LOST, LEAVE] {
                let Some((message, status)) = process.immediate_matched_probe_with_tag(tag) else {
                    continue;
                };
                let mut text = vec![0; status.count(u8::equivalent_datatype()) as usize];
                message.matched_receive_into(&mut text[..]);
                match (tag, text.split_first()) {
                    (ASK, _) => process.send_with_tag(&[u8::from(waiting)][..], HERE),
                    (HERE, Some((&waits, _))) => self.heard[other] = Some(waits != 0),
                    (LOST, _) => self.note(&String::from_utf8_lossy(&text)),
                    (LEAVE, _) => self.left = true,
                    _ => {}
                }
            }
        }
    }

    /// Takes over what another rank says of a lost one: `number problem`.
    fn note(&mut self, text: &str) {
        if let Some((rank, problem)) = text.split_once(' ')
            && let Ok(rank) = rank.parse()
        {
            self.lost.get_or_insert((rank, problem.to_owned()));
        }
    }

    /// Tells the others that a rank is lost.
    fn lose(&mut self, rank: usize, problem: &str) {
        if self.lost.is_none() {
            self.lost = Some((rank, problem.to_owned()));
            self.tell(format!("{rank} {problem}").as_bytes(), LOST, rank);
        }
    }

    fn tell(&self, text: &[u8], tag: i32, but: usize) {
        let others = (0..self.size).filter(|&other| other != self.rank && other != but);
        for other in others {
            let process = self.world.process_at_rank(other as i32);
            process.send_with_tag(text, tag);
        }
    }

    /// After a loss: rank 0 tells that it has done what it could, the others wait for that.
    fn part(&mut self) {
        let lost = self.lost.as_ref().map_or(self.size, |&(rank, _)| rank);
        if self.rank == 0 {
            self.tell(&[], LEAVE, lost);
            return;
        }
        let deadline = Instant::now() + RESCUE;
        while lost != 0 && !self.left && Instant::now() < deadline {
            self.listen(true);
            std::thread::sleep(IDLE);
        }
    }
}

/// What is still under way of messages with ranks.
fn pending<'a, D: ?Sized, S: Scope<'a>>(
    all: Vec<(usize, Request<'a, D, S>)>,
) -> Vec<(usize, Request<'a, D, S>)> {
    let left = |(rank, request): (usize, Request<'a, D, S>)| Some((rank, request.test().err()?));
    all.into_iter().filter_map(left).collect()
}

/// When to ask the ranks that are missing, and what to make of what they say.
struct Late {
    patience: Duration,
    since: Instant,
    asked: Option<Instant>,
}

impl Late {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: Instant::now(),
            asked: None,
        }
    }

    fn look(&mut self, courier: &mut Courier, missing: &[usize]) {
        match self.asked {
            None if self.since.elapsed() >= self.patience => {
                for &rank in missing {
                    courier.heard[rank] = None;
                    let process = courier.world.process_at_rank(rank as i32);
                    process.send_with_tag(&[][..] as &[u8], ASK);
                }
                self.asked = Some(Instant::now());
            }
            Some(asked) if asked.elapsed() >= GRACE => {
                // one that waits itself waits for the one that is lost
                let lost = missing
                    .iter()
                    .find(|&&rank| courier.heard[rank] != Some(true));
                let seconds = self.patience.as_secs_f64();
                match lost {
                    Some(&rank) => {
                        courier.lose(rank, &format!("has not answered for {seconds} s"));
                    }
                    None => *self = Self::new(self.patience),
                }
            }
            _ => {}
        }
    }
}

/// Rests that grow while nothing comes, so that waiting costs others little.
#[derive(Default)]
struct Rest(u32);

impl Rest {
    fn take(&mut self) {
        self.0 += 1;
        match self.0 {
            0..200 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(50)),
        }
    }
}
