//! Roles of the brokers, by Kafka's own tools, and whether each broker has everything.

use crate::rig::{World, until};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::metadata::Metadata;
use std::time::Duration;

/// The role of a broker for a pipeline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Leader,
    Controller,
    TransactionCoordinator,
    GroupCoordinator,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Leader => "partition leader",
            Self::Controller => "controller",
            Self::TransactionCoordinator => "transaction coordinator",
            Self::GroupCoordinator => "group coordinator",
        })
    }
}

impl Role {
    /// The number of the broker that has this role in the world of `pipeline`, whose lead topic is `source`.
    pub fn broker(self, world: &World, pipeline: &str, source: &str) -> String {
        let tool = |class: &str, arguments: &[&str]| world.kafka.tool(class, arguments);
        match self {
            Self::Leader => metadata(world, Some(source)).topics()[0].partitions()[0].leader().to_string(),
            Self::Controller => {
                let text = tool("org.apache.kafka.tools.MetadataQuorumCommand", &["describe", "--status"]);
                let leader = text.lines().find_map(|line| line.strip_prefix("LeaderId:"));
                leader.unwrap_or_else(|| panic!("no leader in {text}")).trim().to_owned()
            }
            Self::TransactionCoordinator => {
                let text = tool("org.apache.kafka.tools.TransactionsCommand", &["list"]);
                let id = format!("{pipeline}-0-0-0");
                let line = text.lines().find(|line| line.split_whitespace().next() == Some(&id));
                let coordinator = line.and_then(|line| line.split_whitespace().nth(1));
                coordinator.unwrap_or_else(|| panic!("no {id} in {text}")).to_owned()
            }
            Self::GroupCoordinator => {
                let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
                let text = tool(class, &["--describe", "--state", "--group", pipeline]);
                let line = text.lines().find(|line| line.starts_with(pipeline));
                let number = line.and_then(|line| Some(line.split_once('(')?.1.split_once(')')?.0));
                number.unwrap_or_else(|| panic!("no coordinator in {text}")).to_owned()
            }
        }
    }
}

fn metadata(world: &World, topic: Option<&str>) -> Metadata {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &world.kafka.bootstrap).create().unwrap();
    until("the cluster tells of its topics", Duration::from_secs(30), || {
        consumer.fetch_metadata(topic, Duration::from_secs(5)).map_err(|error| error.to_string())
    })
}

/// Waits until each of three brokers has every record, so that the next fault takes the last copy of nothing.
pub fn wait_in_sync(world: &World) {
    until("all replicas are in sync", Duration::from_secs(60), || {
        let metadata = metadata(world, None);
        let all = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let short = all.filter(|partition| partition.isr().len() < 3).count();
        if short == 0 { Ok(()) } else { Err(format!("{short} partitions lack a replica")) }
    });
}
