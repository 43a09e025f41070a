//! Followed logs.
//!
//! ```text
//!   Plain: blocks of the ledger ── the first block that is part of a change ──► Changes: events of the mutable ledger
//! ```
//!
//! Up to the first change both count alike, so a follower goes on where it was. A durable subscriber moves to the mutable
//! ledger: what it acknowledged is acknowledged there, block by block, and then its name goes from the ledger below. A
//! crash in between only hands something out again.

use futures::stream::{self, StreamExt as _};
use walytis_core::ledger::{Cursor, LedgerError, LedgerEvent, LedgerRead as _, Query, SubscribeFrom, Subscription};
use walytis_mutability::event::{Change, Event, Events};
use walytis_mutability::{Current, MutableLedger};

use super::{LogStream, Show, own_name};
use crate::app::convert;
use crate::app::views::{Source, View, is_change};
use crate::failure::Failure;
use crate::view;

/// Follows a ledger.
pub(super) async fn blocks(
    source: Source,
    log: &view::LogQuery,
    query: Query,
    show: Show,
) -> Result<LogStream, Failure> {
    let named = log.subscriber.as_deref().map(own_name).transpose()?;
    let from = match (&named, log.from_position) {
        (Some(name), _) => SubscribeFrom::Name(name.clone()),
        (None, Some(position)) => SubscribeFrom::Cursor(Cursor(position)),
        (None, None) if log.new => SubscribeFrom::Now,
        (None, None) => SubscribeFrom::Cursor(Cursor(0)),
    };
    let stage = match source.view().await? {
        View::Plain(ledger) => Stage::Plain(ledger.subscribe(from).await?),
        View::Changed(ledger) => match &named {
            Some(name) => named_changes(&source, ledger, name, Cursor(0)).await?,
            None => Stage::Changes { events: ledger.events(from).await?, ahead: None, ledger },
        },
    };
    let following = Following { stage, source, query, show, named };
    let items = stream::unfold(following, |mut following| async move {
        let item = following.next().await.transpose()?;
        Some((item.map_err(Failure::from), following))
    });
    Ok(items.boxed())
}

/// A log that is followed.
struct Following {
    stage: Stage,
    source: Source,
    query: Query,
    show: Show,
    named: Option<String>,
}

enum Stage {
    Plain(Box<dyn Subscription>),
    Changes {
        events: Box<dyn Events>,
        /// An event that was taken out and not told.
        ahead: Option<Event>,
        ledger: MutableLedger,
    },
}

impl Following {
    async fn next(&mut self) -> Result<Option<view::LogEvent>, LedgerError> {
        loop {
            let item = match &mut self.stage {
                Stage::Plain(subscription) => {
                    let Some(event) = subscription.next().await? else { return Ok(None) };
                    if let LedgerEvent::Block(info) = &event
                        && is_change(info)
                    {
                        self.turn_to_changes(event.cursor()).await?;
                        continue;
                    }
                    self.plain_item(event).await?
                }
                Stage::Changes { events, ahead, ledger } => {
                    let ledger = ledger.clone();
                    let event = match ahead.take() {
                        Some(event) => event,
                        None => match events.next().await? {
                            Some(event) => event,
                            None => return Ok(None),
                        },
                    };
                    self.change_item(event, &ledger).await?
                }
            };
            if item.is_some() {
                return Ok(item);
            }
        }
    }

    /// Goes on with changes: the block at `cursor` is the first part of one.
    async fn turn_to_changes(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        let ledger = self.source.changed().await?;
        let told = Cursor(cursor.0.saturating_sub(1));
        self.stage = match &self.named {
            Some(name) => named_changes(&self.source, ledger, name, told).await?,
            None => Stage::Changes { events: ledger.events(SubscribeFrom::Cursor(told)).await?, ahead: None, ledger },
        };
        Ok(())
    }

    async fn plain_item(&mut self, event: LedgerEvent) -> Result<Option<view::LogEvent>, LedgerError> {
        let position = event.cursor().0;
        Ok(Some(match event {
            LedgerEvent::Block(info) if self.query.matches(&info) => {
                let attempt = self.begin(info.cursor).await?;
                let block = view::Block { position: Some(position), attempt, ..(self.show)(&info) };
                view::LogEvent::Block(Box::new(block))
            }
            LedgerEvent::Retracted { id, .. } => {
                view::LogEvent::Notice(view::Notice::Retracted { id: id.to_string(), version: None, position })
            }
            LedgerEvent::ForgetProposed { proposal, .. } => {
                view::LogEvent::Notice(view::Notice::ForgetProposed { proposal: proposal.to_string(), position })
            }
            LedgerEvent::Forgotten { id, .. } => {
                view::LogEvent::Notice(view::Notice::Forgotten { id: id.to_string(), version: None, position })
            }
            LedgerEvent::Lagged { missed, resume, .. } => {
                view::LogEvent::Notice(view::Notice::Lagged { missed, resume: resume.0, position })
            }
            _ => {
                self.pass(Cursor(position)).await?;
                return Ok(None);
            }
        }))
    }

    async fn change_item(
        &mut self,
        event: Event,
        ledger: &MutableLedger,
    ) -> Result<Option<view::LogEvent>, LedgerError> {
        let position = event.cursor.0;
        let id = event.id.to_string();
        let version = || (event.version != event.id).then(|| event.version.to_string());
        let notice = match event.change {
            Change::Retracted => Some(view::Notice::Retracted { id: id.clone(), version: version(), position }),
            Change::ForgetProposed => Some(view::Notice::ForgetProposed { proposal: id.clone(), position }),
            Change::Forgotten => Some(view::Notice::Forgotten { id: id.clone(), version: version(), position }),
            _ => None,
        };
        if let Some(notice) = notice {
            return Ok(Some(view::LogEvent::Notice(notice)));
        }
        let Some(current) = shown(&event, ledger, &self.query).await? else {
            self.pass(event.cursor).await?;
            return Ok(None);
        };
        let attempt = self.begin(event.cursor).await?;
        let block = convert::current(&current, self.show);
        if event.change == Change::Created {
            let block = view::Block { position: Some(position), attempt, ..block };
            return Ok(Some(view::LogEvent::Block(Box::new(block))));
        }
        let changed =
            view::BlockChanged { id, version: event.version.to_string(), position, attempt, block: Box::new(block) };
        let notice = match event.change {
            Change::Edited => view::Notice::Edited(changed),
            Change::Deleted => view::Notice::Deleted(changed),
            Change::Restored => view::Notice::Restored(changed),
            _ => view::Notice::Conflicted(changed),
        };
        Ok(Some(view::LogEvent::Notice(notice)))
    }

    /// Notes for a durable subscriber that an event is handed out; returns which attempt it is.
    async fn begin(&mut self, cursor: Cursor) -> Result<Option<u32>, LedgerError> {
        if self.named.is_none() {
            return Ok(None);
        }
        match &mut self.stage {
            Stage::Plain(subscription) => subscription.begin(cursor).await.map(Some),
            Stage::Changes { events, .. } => events.begin(cursor).await.map(Some),
        }
    }

    /// What the subscriber did not ask for is not left for it to acknowledge.
    async fn pass(&mut self, cursor: Cursor) -> Result<(), LedgerError> {
        match &mut self.stage {
            Stage::Plain(subscription) => subscription.ack_one(cursor).await,
            Stage::Changes { events, .. } => events.ack_one(cursor).await,
        }
    }
}

/// Returns the block of an event as it stands now, if the log shows it. Of a change also the original is looked at:
/// whoever was told of it must hear that it is no longer what it was.
async fn shown(event: &Event, ledger: &MutableLedger, query: &Query) -> Result<Option<Current>, LedgerError> {
    let Some(current) = ledger.current(&event.id).await? else { return Ok(None) };
    if query.matches(&current.info) {
        return Ok(Some(current));
    }
    let original = ledger.below().get(&event.id).await?;
    Ok(original.filter(|original| query.matches(original)).map(|_| current))
}

/// Goes on as a durable subscriber. One of the ledger below moves to the mutable ledger: what it acknowledged is
/// acknowledged, and what it was told up to `told` is not told again now.
async fn named_changes(source: &Source, ledger: MutableLedger, name: &str, told: Cursor) -> Result<Stage, LedgerError> {
    let is_new = !ledger.subscribers().await?.iter().any(|one| one.name == name);
    let below = source.ledger.subscribers().await?.into_iter().find(|one| one.name == name);
    let mut events = ledger.events(SubscribeFrom::Name(name.to_owned())).await?;
    let mut ahead = None;
    let Some(below) = below else { return Ok(Stage::Changes { events, ahead, ledger }) };
    let (end, mut acknowledged, mut last) = (ledger.cursor(), None, Cursor(0));
    while is_new && last < end {
        let Some(event) = events.next().await? else { break };
        let place = ledger.below().get(&event.version).await?.map(|info| info.cursor);
        match place {
            Some(place) if place <= below.acknowledged => acknowledged = Some(event.cursor),
            Some(place) if place <= told => {}
            _ => {
                ahead = Some(event);
                break;
            }
        }
        last = event.cursor;
    }
    if let Some(acknowledged) = acknowledged {
        events.ack(acknowledged).await?;
    }
    source.ledger.unsubscribe(name).await?;
    Ok(Stage::Changes { events, ahead, ledger })
}
