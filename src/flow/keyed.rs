//! Compound keys as plain serde structs: their fields are the columns of the key.

use crate::flow::column::ColumnType;
use crate::flow::effect::Reject;
use crate::flow::key::{Key, KeyType, Part, PartType, known};
use crate::flow::row::{Value, columns_of, from_values, to_values};
use crate::flow::table::{ColumnSpec, Table};
use serde::Serialize;
use serde::de::DeserializeOwned;

impl KeyType {
    /// Keys of several fields, which are those of a struct: JSON objects as Debezium and Kafka Connect write them for a table
    /// whose key has several columns, with a schema beside them or without. Each field is a whole number, a text or a UUID.
    ///
    /// # Errors
    /// A sentence: the type is no such struct.
    pub fn fields_of<K: Serialize + DeserializeOwned>() -> Result<Self, String> {
        let name = std::any::type_name::<K>();
        let columns = columns_of::<K>().map_err(|error| format!("the key's struct: {error}"))?;
        let fields: Result<Vec<_>, String> =
            columns.iter().map(|column| part_of(name, column).map(|part| (column.name.clone(), part))).collect();
        match fields?.as_slice() {
            [] | [_] => {
                Err(format!("the key's struct {name}: has one field: name that in Table::key, with KeyType::Field"))
            }
            fields => Ok(Self::Fields(known(fields))),
        }
    }
}

fn part_of(name: &str, column: &ColumnSpec) -> Result<PartType, String> {
    let field = &column.name;
    if column.is_nullable {
        return Err(format!(
            "the key's struct {name}, field {field}: is an Option, and a column of a key is never null"
        ));
    }
    match column.accepts.first() {
        Some(ColumnType::I16 | ColumnType::I32 | ColumnType::I64) => Ok(PartType::I64),
        Some(ColumnType::Text) => Ok(PartType::Text),
        Some(ColumnType::Uuid) => Ok(PartType::Uuid),
        other => {
            let kind = other.map(ToString::to_string).unwrap_or_default();
            Err(format!(
                "the key's struct {name}, field {field}: is {kind}; a field of a key is a whole number, a text or a UUID"
            ))
        }
    }
}

impl Table {
    /// Names a key of several columns by a struct: its fields are the columns and the fields of the record's JSON key. The
    /// database needs a primary key, or a unique index, over just these columns, in any order.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// use tidegate::flow::{Key, Table};
    /// #[derive(Serialize, Deserialize, PartialEq, Debug)]
    /// struct OrderKey {
    ///     tenant: i64,
    ///     number: String,
    /// }
    /// let table = Table::new("orders").compound_key::<OrderKey>();
    /// let key = Key::of(&OrderKey { tenant: 7, number: "a".into() }).unwrap();
    /// assert_eq!(key.to_string(), r#"[7,"a"]"#);
    /// assert_eq!(key.read::<OrderKey>().unwrap().tenant, 7);
    /// # assert_eq!(table.key_columns().len(), 2);
    /// ```
    #[must_use]
    pub fn compound_key<K: Serialize + DeserializeOwned>(self) -> Self {
        match KeyType::fields_of::<K>() {
            Ok(key_type) => self.key("", key_type),
            Err(mistake) => self.mistaken(mistake),
        }
    }
}

impl Key {
    /// The compound key that a struct stands for.
    ///
    /// # Errors
    /// A sentence: the type is no struct of whole numbers, texts and UUIDs.
    pub fn of<K: Serialize + DeserializeOwned>(key: &K) -> Result<Self, String> {
        KeyType::fields_of::<K>()?;
        let mut values = Vec::new();
        to_values(key, &columns_of::<K>()?, &mut values).map_err(|error| error.to_string())?;
        let part = |value: Value| match value {
            Value::I16(id) => Ok(Part::I64(id.into())),
            Value::I32(id) => Ok(Part::I64(id.into())),
            Value::I64(id) => Ok(Part::I64(id)),
            Value::Text(id) => Ok(Part::Text(id.into())),
            other => Err(format!("{other:?} is no part of a key")),
        };
        values.into_iter().map(part).collect::<Result<_, _>>().map(Self::Parts)
    }

    /// A compound key as its struct.
    ///
    /// # Errors
    /// [`Reject`] with the code `bad-key`: it is no compound key of this struct.
    pub fn read<K: DeserializeOwned>(&self) -> Result<K, Reject> {
        let Self::Parts(parts) = self else {
            return Err(Reject::dead_letter("bad-key", "the key is not of several fields"));
        };
        let values: Vec<Value> = parts.iter().map(Part::as_value).collect();
        from_values(&values).map_err(|error| Reject::dead_letter("bad-key", error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Place {
        tenant: i32,
        id: uuid::Uuid,
        name: String,
    }

    #[test]
    fn a_compound_key_is_read_from_json_and_written_so() {
        let key_type = KeyType::fields_of::<Place>().unwrap();
        let id = uuid::Uuid::from_u128(7);
        let spelt = format!(r#"{{"tenant":7,"id":"{id}","name":"a \"b\""}}"#);
        let key = key_type.parse(Some(spelt.as_bytes())).unwrap();
        assert_eq!(key.read::<Place>().unwrap(), Place { tenant: 7, id, name: "a \"b\"".into() });
        assert_eq!(Key::of(&key.read::<Place>().unwrap()).unwrap(), key);
        assert_eq!(String::from_utf8(key_type.spell(&key)).unwrap(), spelt);
        assert_eq!(key.to_string(), format!(r#"[7,"{id}","a \"b\""]"#));
        assert_eq!(Key::of_list(&key.to_string()), Some(key.clone()));
        let upper = format!(
            r#"{{"schema":{{}},"payload":{{"name":"a \"b\"","id":"{}","tenant":7,"more":1}}}}"#,
            id.to_string().to_uppercase()
        );
        assert_eq!(key_type.parse(Some(upper.as_bytes())).unwrap(), key, "in any order, with a schema, with more");
        assert_eq!(KeyType::fields_of::<Place>().unwrap(), key_type);
    }

    #[test]
    fn what_is_no_compound_key_is_told() {
        let said = |bytes: &[u8]| {
            let reject = KeyType::fields_of::<Place>().unwrap().parse(Some(bytes)).unwrap_err();
            (reject.code().to_owned(), reject.message().to_owned())
        };
        for (bytes, why) in [
            (&br#"{"tenant":7,"name":"a"}"#[..], "a JSON object with the field \"id\" (it has name, tenant)"),
            (br#"{"tenant":7.5,"id":"x","name":"a"}"#, "a JSON object with a 64-bit integer in \"tenant\""),
            (br#"{"tenant":7,"id":"x","name":"a"}"#, "a JSON object with a UUID in \"id\""),
            (b"7", "is not a JSON object"),
        ] {
            let (code, message) = said(bytes);
            assert!(code == "bad-key" && message.contains(why), "{message}");
        }
    }

    #[derive(Serialize, Deserialize)]
    struct One {
        id: i64,
    }

    #[derive(Serialize, Deserialize)]
    struct Loose {
        id: Option<i64>,
        at: i64,
    }

    #[derive(Serialize, Deserialize)]
    struct Broken {
        id: f64,
        at: i64,
    }

    #[test]
    fn a_struct_that_is_no_key_is_refused_with_the_fix() {
        let said = |table: Table| table.mistake.unwrap();
        assert!(said(Table::new("t").compound_key::<One>()).contains("name that in Table::key, with KeyType::Field"));
        assert!(said(Table::new("t").compound_key::<Loose>()).contains("field id: is an Option"));
        assert!(said(Table::new("t").compound_key::<Broken>()).contains("field id: is double precision"));
        assert!(said(Table::new("t").compound_key::<i64>()).contains("the key's struct"));
    }
}
