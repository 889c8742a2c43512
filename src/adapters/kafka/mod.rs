//! Apache Kafka through librdkafka: the only folder that names rdkafka.
