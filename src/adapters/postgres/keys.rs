//! The key of a user's table in statements. Names come quoted; `t` is the table, and `u.k` or `$1` brings keys.

use super::values;
use crate::flow::table::ColumnType;

/// The key column as the database has it. What is compared with it has its own type: no index serves another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyColumn {
    /// Of the type in which keys travel, or one that its index serves.
    Plain,
    /// `char(n)`, whose comparison ignores blanks at the end, or `citext`, whose comparison ignores case, spelled as in a
    /// statement: a key that differs by them is no key of the row.
    Loose(String),
    /// An enum, spelled as in a statement. A key that is none of its values finds no row; a cast would fail.
    Enum(String),
    /// Several columns of these types. Such keys travel as JSON lists.
    Parts(Vec<ColumnType>),
}

/// A table's key, with its column's quoted name, or those of its columns.
pub(super) struct KeyText<'a> {
    pub(super) names: &'a [String],
    pub(super) kind: ColumnType,
    pub(super) column: &'a KeyColumn,
}

/// The parts of a list, each as its column is compared.
fn parts(list: &str, kinds: &[ColumnType]) -> Vec<String> {
    let part =
        |(number, kind): (usize, &ColumnType)| format!("({list}::jsonb->>{number})::{}", values::array_type(*kind));
    kinds.iter().enumerate().map(part).collect()
}

impl KeyText<'_> {
    /// The name of a key's only column.
    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The columns, as an insert names them.
    pub(super) fn columns(&self) -> String {
        self.names.join(", ")
    }

    /// The columns of `t`, as rows are sorted by them.
    pub(super) fn order(&self) -> String {
        self.names.iter().map(|name| format!("t.{name}")).collect::<Vec<_>>().join(", ")
    }

    /// The type in which keys come.
    pub(super) fn array(&self) -> String {
        format!("{}[]", values::array_type(self.kind))
    }

    /// The key of `t` as it travels.
    pub(super) fn read(&self) -> String {
        let name = self.name();
        match (self.column, self.kind) {
            (KeyColumn::Parts(_), _) => format!("jsonb_build_array({})::text", self.order()),
            (_, ColumnType::Text) => format!("t.{name}::text"),
            (_, ColumnType::I64) => format!("t.{name}::bigint"), // a smaller one as well
            _ => format!("t.{name}"),
        }
    }

    /// The key of `t` as it is compared: of the enum itself where its type is a domain over it.
    pub(super) fn compared(&self) -> String {
        let name = self.name();
        match self.column {
            KeyColumn::Plain | KeyColumn::Loose(_) => format!("t.{name}"),
            KeyColumn::Enum(kind) => format!("t.{name}::{kind}"),
            KeyColumn::Parts(_) => format!("jsonb_build_array({})", self.order()),
        }
    }

    /// The condition that a row of `t` has one of the keys `$1`.
    pub(super) fn is_among(&self) -> String {
        let (name, array) = (self.name(), self.array());
        match self.column {
            KeyColumn::Plain => format!("t.{name} = ANY($1::{array})"),
            KeyColumn::Loose(kind) => {
                format!("t.{name} = ANY($1::{array}::{kind}[]) AND t.{name}::text = ANY($1::{array})")
            }
            KeyColumn::Enum(kind) => format!(
                "t.{name}::{kind} = ANY(ARRAY(SELECT e FROM unnest(enum_range(NULL::{kind})) AS e WHERE e::text = ANY($1::{array})))"
            ),
            KeyColumn::Parts(kinds) => format!(
                "({}) IN (SELECT {} FROM unnest($1::{array}) AS w(k))",
                self.order(),
                parts("w.k", kinds).join(", ")
            ),
        }
    }

    /// The key `u.k` as the columns hold it.
    pub(super) fn given(&self) -> Vec<String> {
        match self.column {
            KeyColumn::Plain => vec!["u.k".into()],
            KeyColumn::Loose(kind) | KeyColumn::Enum(kind) => vec![format!("u.k::{kind}")],
            KeyColumn::Parts(kinds) => parts("u.k", kinds),
        }
    }

    /// The condition that a row of `t`, which was read, has the key `u.k`.
    pub(super) fn is_given(&self) -> String {
        if let KeyColumn::Parts(_) = self.column {
            let equal = self.names.iter().zip(self.given()).map(|(name, given)| format!("t.{name} = {given}"));
            return equal.collect::<Vec<_>>().join(" AND ");
        }
        format!("{} = {}", self.compared(), self.given().concat())
    }
}
