//! Two table topics as one: what both say of a key, told whichever of them changes.

use crate::flow::algorithm::{Algorithm, Context};
use crate::flow::effect::Reject;
use crate::flow::key::Key;
use crate::flow::net::in_net;
use crate::flow::notice::Notice;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The code that makes one value of those that two tables have for a key.
///
/// Pure and synchronous, as an [`Algorithm`]: it is run over the values of before, too.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidegate::flow::{Key, TableJoin, Topology};
///
/// #[derive(Serialize, Deserialize)] struct User { name: String }
/// #[derive(Serialize, Deserialize)] struct Limit { cents: i64 }
/// #[derive(Serialize)]              struct Known { name: String, cents: i64 }
///
/// struct Join;
///
/// impl TableJoin for Join {
///     type Left = User;
///     type Right = Limit;
///     type Value = Known;
///
///     fn join(&self, user: Option<&User>, limit: Option<&Limit>, _: &Key) -> Option<Known> {
///         Some(Known { name: user?.name.clone(), cents: limit?.cents })
///     }
/// }
///
/// let mut topology = Topology::new("known");
/// topology.source("users").join_tables("limits").aggregate("known-users", Join).to("known");
/// assert_eq!(topology.validate(), Ok(()));
/// ```
pub trait TableJoin: Send + Sync + 'static {
    /// The value of the table that the source names.
    type Left: Serialize + DeserializeOwned;

    /// The value of the other table.
    type Right: Serialize + DeserializeOwned;

    /// The value of both.
    type Value: Serialize;

    /// Makes one value of both; `None` where there is none, as without both for an inner join. At least one of them is there.
    fn join(&self, left: Option<&Self::Left>, right: Option<&Self::Right>, key: &Key) -> Option<Self::Value>;
}

/// The values that two tables have for a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Both<L, R> {
    /// That of the table that the source names.
    pub left: Option<L>,
    /// That of the other one.
    pub right: Option<R>,
    /// Whether a value of both was told, and not forgotten since. `None` where an earlier release kept them without it.
    #[serde(default)]
    pub is_told: Option<bool>,
}

impl<L, R> Default for Both<L, R> {
    fn default() -> Self {
        Self { left: None, right: None, is_told: None }
    }
}

/// A change of one of the two tables; `None` for a tombstone.
#[derive(Clone, Debug)]
pub enum Changed<L, R> {
    /// Of the table that the source names.
    Left(Option<L>),
    /// Of the other one.
    Right(Option<R>),
}

/// A join of two tables as an aggregate. Made by
/// [`JoinedTables::aggregate`](crate::flow::topology::JoinedTables::aggregate).
pub struct OfTables<J>(pub(crate) J);

impl<J> fmt::Debug for OfTables<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OfTables").finish_non_exhaustive()
    }
}

impl<J: TableJoin> Algorithm for OfTables<J> {
    type Event = Changed<J::Left, J::Right>;
    type Row = Option<Both<J::Left, J::Right>>;
    type Notices = Option<Notice<J::Value>>;

    fn apply(
        &self,
        changed: Self::Event,
        row: &mut Self::Row,
        context: &mut Context<'_>,
    ) -> Result<Self::Notices, Reject> {
        let join = |both: &Both<J::Left, J::Right>| self.0.join(both.left.as_ref(), both.right.as_ref(), context.key);
        // Where that was not kept, a release whose code fails over the values of before may have told of them: whoever reads the
        // topic forgets the key then.
        let would_tell = |both: &Both<J::Left, J::Right>| in_net(|| Ok(join(both).is_some())).unwrap_or(true);
        let was_there = row.as_ref().is_some_and(|both| both.is_told.unwrap_or_else(|| would_tell(both)));
        let mut both = row.take().unwrap_or_default();
        match changed {
            Changed::Left(left) => both.left = left,
            Changed::Right(right) => both.right = right,
        }
        *row = Some(both).filter(|both| both.left.is_some() || both.right.is_some());
        let joined = row.as_ref().and_then(join);
        if let Some(both) = row {
            both.is_told = Some(joined.is_some());
        }
        Ok(joined.map(Notice::new).or_else(|| was_there.then(Notice::tombstone)))
    }
}
