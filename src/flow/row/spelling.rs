//! Restores the unchanged parts of a changed JSON column in the database's spelling: a number with more digits than a double
//! has, or `1.10`. A member that the struct does not know goes, as serde has it: it may be an older name of one that the
//! struct writes, and both would not be read again.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// `after` with the spelling of `read` wherever it is as `before`; `None` where a text is not JSON.
pub(super) fn keep(read: &str, before: &str, after: &str) -> Option<String> {
    let mut out = String::with_capacity(read.len().max(after.len()));
    merge(read, before, after, &mut out)?;
    Some(out)
}

fn merge(read: &str, before: &str, after: &str, out: &mut String) -> Option<()> {
    if after == before {
        out.push_str(read);
        return Some(());
    }
    let both = |open: char| [read, before, after].iter().all(|text| text.trim_start().starts_with(open));
    if both('{') {
        return members(read, before, after, out);
    }
    if both('[') {
        return elements(read, before, after, out);
    }
    out.push_str(after);
    Some(())
}

fn members(read: &str, before: &str, after: &str, out: &mut String) -> Option<()> {
    let [read, before, after] = [read, before, after].map(|text| serde_json::from_str::<Members<'_>>(text).ok());
    let (read, before, after) = (read?, before?, after?);
    let (known, before) = (read.by_name(), before.by_name());
    out.push('{');
    let mut separator = "";
    for (name, value) in &after.0 {
        member(name, &mut separator, out)?;
        match (known.get(name.as_str()), before.get(name.as_str())) {
            (Some(read), Some(before)) => merge(read, before, value.get(), out)?,
            _ => out.push_str(value.get()),
        }
    }
    out.push('}');
    Some(())
}

fn member(name: &str, separator: &mut &str, out: &mut String) -> Option<()> {
    out.push_str(separator);
    *separator = ",";
    out.push_str(&serde_json::to_string(name).ok()?);
    out.push(':');
    Some(())
}

/// Compares element by element where the number of elements is unchanged: otherwise no element can be matched with its
/// earlier self.
fn elements(read: &str, before: &str, after: &str, out: &mut String) -> Option<()> {
    let parse = |text| serde_json::from_str::<Vec<&RawValue>>(text).ok();
    let (read, before, elements) = (parse(read)?, parse(before)?, parse(after)?);
    if read.len() != elements.len() || before.len() != elements.len() {
        out.push_str(after);
        return Some(());
    }
    out.push('[');
    let mut separator = "";
    for ((read, before), element) in read.iter().zip(&before).zip(&elements) {
        out.push_str(separator);
        separator = ",";
        let is_same = before.get() == element.get();
        out.push_str(if is_same { read.get() } else { element.get() });
    }
    out.push(']');
    Some(())
}

/// The members of an object in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl Members<'_> {
    fn by_name(&self) -> BTreeMap<&str, &str> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.get())).collect()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members<'de>, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_change_keeps_its_spelling_and_what_changed_has_the_new_value() {
        let read = r#"{"id": 12345678901234567890123, "price": 1.10, "in": {"a": 2.50, "b": 1}, "list": [1.0, 2.00]}"#;
        let before = r#"{"id":1.2345678901234568e22,"price":1.1,"in":{"a":2.5,"b":1},"list":[1.0,2.0]}"#;
        let after = r#"{"id":1.2345678901234568e22,"price":1.1,"in":{"a":2.5,"b":7},"list":[1.0,3.0],"new":true}"#;
        assert_eq!(
            keep(read, before, after).unwrap(),
            r#"{"id":12345678901234567890123,"price":1.10,"in":{"a":2.50,"b":7},"list":[1.0,3.0],"new":true}"#
        );
        let gone = r#"{"price":1.2,"list":[2.0]}"#;
        assert_eq!(keep(read, before, gone).unwrap(), gone);
    }

    #[test]
    fn members_that_the_struct_does_not_write_go_with_the_object_that_changes() {
        let kept =
            keep(r#"{"old": 1, "in": {"old": 2}}"#, r#"{"new":1,"in":{"new":2}}"#, r#"{"new":5,"in":{"new":2}}"#);
        assert_eq!(kept.unwrap(), r#"{"new":5,"in":{"old": 2}}"#, "an older name is read as the newer one");
        let list = keep(r#"[{"a": 1, "other": 9}, {"a": 2}]"#, r#"[{"a":1},{"a":2}]"#, r#"[{"a":2}]"#).unwrap();
        assert_eq!(list, r#"[{"a":2}]"#, "which element is gone is not known");
        assert_eq!(keep("x", "1", "{}"), Some("{}".into()));
    }

    #[test]
    fn a_list_that_was_read_with_other_elements_than_the_struct_holds_is_written_as_the_struct_has_it() {
        assert_eq!(keep("[1.0, 2.00, 3.0]", "[1.0,2.0]", "[1.0,5.0]").unwrap(), "[1.0,5.0]");
        assert_eq!(keep("[1.0, 2.00]", "[1.0,2.0]", "[5.0,2.0]").unwrap(), "[5.0,2.00]");
    }
}
