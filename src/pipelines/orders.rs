//! Adds to every order of a known user the name and the country that it goes to: a stream joined with a table topic.
//!
//! Topics `orders`, `users` (a compacted topic that other systems write), `orders-users-changelog` and `addressed-orders`,
//! described in the folder `topics/orders`. Both sources are keyed by user, so nothing is shuffled. No database: the known
//! users lie in the store `users`, beside the partition, where each order looks its user up. An order of a user who is not
//! known (any more) is skipped and counted.

use crate::flow::{Algorithm, Context, Reject, Topology};
use serde::{Deserialize, Serialize};

/// The pipeline; `tidegate::run` gives it a command line.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = Topology::new("orders");
    topology.source("orders").join("users").process(Address).to("addressed-orders");
    topology
}

/// The event. Further fields are ignored, so that producers can add some first.
#[derive(Deserialize)]
struct Order {
    item: String,
    cents: i64,
}

/// The table's value for each user. Further fields are neither read nor kept.
#[derive(Serialize, Deserialize)]
struct User {
    name: String,
    country: String,
}

/// The notice for the next topic.
#[derive(Serialize, PartialEq, Debug)]
struct AddressedOrder {
    item: String,
    cents: i64,
    name: String,
    country: String,
}

/// Writes the user's address on the order.
struct Address;

impl Algorithm for Address {
    type Event = (Order, User);
    type Row = ();
    type Notices = Option<AddressedOrder>;

    fn apply(
        &self,
        (order, user): (Order, User),
        (): &mut (),
        _: &mut Context<'_>,
    ) -> Result<Option<AddressedOrder>, Reject> {
        let (Order { item, cents }, User { name, country }) = (order, user);
        Ok(Some(AddressedOrder { item, cents, name, country }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Key;
    use crate::flow::record::TopicName;

    #[test]
    fn an_order_is_told_with_its_users_address() {
        let (topic, key) = (TopicName::parse("orders").unwrap(), Key::from("ada"));
        let event = (Order { item: "lamp".into(), cents: 1250 }, User { name: "Ada".into(), country: "NL".into() });
        let told = Address.apply(event, &mut (), &mut Context::example(&topic, &key)).unwrap();
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(text, r#"{"item":"lamp","cents":1250,"name":"Ada","country":"NL"}"#);
    }

    #[test]
    fn the_topology_is_sound_and_nothing_is_shuffled() {
        let topology = topology();
        assert_eq!(topology.validate(), Ok(()));
        assert_eq!(topology.internal_topics().len(), 0);
    }
}
