#!/usr/bin/env bash
# One job: run real Kafka brokers (KRaft, each broker and controller) for tests and for trying.
# Guarantee: start and restart return when the broker serves; kill, end and stop, when its process is gone.
# Never: touches a process or folder other than DIR's.
#
# kafka.sh start DIR [1|3]         new cluster in a new or empty DIR; last line: bootstrap servers
# kafka.sh stop DIR                SIGTERM to all, SIGKILL after 10 s; data and ports stay
# kafka.sh kill DIR BROKER         SIGKILL
# kafka.sh end DIR BROKER          SIGTERM, SIGKILL after 10 s
# kafka.sh restart DIR BROKER      ended first where it runs; same data, same ports; last line: bootstrap servers
# kafka.sh pause|resume DIR BROKER SIGSTOP, SIGCONT
# kafka.sh status DIR              a line a broker: BROKER up|paused|down HOST:PORT; exit 1 unless all are up
# kafka.sh proxies DIR             with KAFKA_PROXIED=1 at the start, a line a broker: where its proxy is to listen, and
#                                  where that has to lead
# kafka.sh secured DIR             with KAFKA_SECURED=1 at the start, the bootstrap servers of the listener with access lists
# kafka.sh encrypted DIR           with KAFKA_ENCRYPTED=1 at the start, the bootstrap servers of the listener with TLS
# kafka.sh astray DIR              with KAFKA_ASTRAY=1 at the start, the bootstrap servers of the listener that sends astray
# kafka.sh remove DIR              SIGKILL to all, DIR removed
# kafka.sh tool CLASS [ARGUMENT...] one of Kafka's own tools, such as org.apache.kafka.tools.TopicCommand
#
# TIDEGATE_PARENT_PID: with start; when that process is gone, remove DIR.
# KAFKA_PROXIED=1: with start; each broker has a second listener, which sends its clients to a port where nobody listens
# yet: whoever puts a proxy there needs to rewrite no answer. Clients of the bootstrap servers pass by it.
# KAFKA_SECURED=1: with start; each broker has another listener by SASL/PLAIN, for the user app with the password app-secret,
# who may nothing that no access list allows. Clients of the bootstrap servers may everything.
# KAFKA_ENCRYPTED=1: with start; each broker has another listener by TLS. Its certificate is for kafka.example alone, by the CA in
# DIR/ca.pem; DIR/other-ca.pem is a CA that has signed nothing. Needs openssl.
# KAFKA_ASTRAY=1: with start; each broker has another listener that sends its clients on to a host that does not resolve.
# KAFKA_MORE: with start; more lines for each broker's server.properties, which win.
# KAFKA_JVM: flags of the broker's JVM in place of ours. KAFKA_JVM_MORE: flags beside them.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=process.sh
source "$here/process.sh"
# shellcheck source=port.sh
source "$here/port.sh"

version=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$here/pom.xml")
jars=${XDG_CACHE_HOME:-$HOME/.cache}/tidegate/kafka-$version
# Measured on 2 cores, 4 million records and 40,000 small transactions after the start: half the CPU and a start 3 s
# shorter than with the second compiler and G1. A run of many minutes may want KAFKA_JVM='-Xmx512m'.
quick=(-XX:TieredStopAtLevel=1 -XX:+UseSerialGC)
log4j=-Dlog4j2.configurationFile=$here/log4j2.properties
ready='Kafka Server started'

# Jars from Maven, once a machine and pom.
fetch_jars() {
  cmp -s "$here/pom.xml" "$jars/pom.xml" && return
  "$here/install.sh" kafka
  mkdir -p "${jars%/*}"
  local lock attempt fresh
  exec {lock}>"$jars.lock"
  flock "$lock"
  if ! cmp -s "$here/pom.xml" "$jars/pom.xml"; then
    fresh=$(mktemp -d "$jars.XXXXXX")
    for attempt in 1 2 3 0; do
      ((attempt)) || { rm -rf "$fresh"; fail "Maven could not fetch Kafka's jars, see above" 69; }
      mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$fresh" </dev/null >&2 && break
    done
    cp "$here/pom.xml" "$fresh/pom.xml"
    chmod 755 "$fresh"
    rm -rf "$jars"
    mv "$fresh" "$jars"
  fi
  exec {lock}>&-
}

# Sorted, since an archive of loaded classes fits one order only; by the environment, so that ps stays readable.
use_jars() {
  fetch_jars
  CLASSPATH=$(printf '%s:' "$jars"/*.jar)
  export CLASSPATH=${CLASSPATH%:}
  local release
  release=$(readlink -f "$(command -v java)")
  release=$(sed -n 's/^JAVA_RUNTIME_VERSION="\(.*\)"/\1/p' "${release%/bin/java}/release")
  archive=$jars/classes-${release//[^A-Za-z0-9.+-]/}.jsa
}

# Class data archive of a broker's life, once a machine and JVM: halves each later start. Made from a broker which is
# thrown away, and no start fails for want of it.
archive_classes() {
  [[ ! -e $archive ]] || return 0
  local lock folder
  exec {lock}>"$jars.lock"
  flock "$lock"
  if [[ ! -e $archive ]]; then
    echo "kafka.sh: first start on this machine, making a class archive (about 15 s)" >&2
    folder=$(mktemp -d "${TMPDIR:-/tmp}/tidegate-archive-XXXXXX")
    if dir=$folder brokers=1 KAFKA_ENCRYPTED='' configure 1 && dir=$folder format "$(cluster_id)" &&
      begin "$folder/pid" "$folder/log" java "${quick[@]}" -XX:ArchiveClassesAtExit="$folder/new.jsa" "$log4j" \
        kafka.Kafka "$folder/broker-1/server.properties"; then
      local pid=$REPLY until=$((SECONDS + 60))
      until grep -q "$ready" "$folder/log" || ! state "$pid" || ((SECONDS > until)); do sleep 0.1; done
      kill -TERM "$pid" 2>/dev/null || true
      gone_within 60 "$pid" || kill -KILL "$pid" 2>/dev/null || true
      [[ ! -s $folder/new.jsa ]] || mv "$folder/new.jsa" "$archive"
    fi
    rm -rf "$folder"
  fi
  exec {lock}>&-
}

# No leading dash, which the tool would take for an option.
cluster_id() { head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d = | sed 's/^-/A/'; }

# Certificates of a listener with TLS, for a name that nobody asks for.
certify() (
  cd "$dir" &&
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 30 &&
    openssl req -x509 -newkey rsa:2048 -nodes -keyout other-ca.key -out other-ca.pem -subj /CN=other -days 30 &&
    openssl req -newkey rsa:2048 -nodes -keyout broker.key -out broker.csr -subj /CN=kafka.example &&
    echo subjectAltName=DNS:kafka.example >names &&
    openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out broker.crt -days 30 -extfile names &&
    cat broker.key broker.crt >broker.pem
)

# configure BROKER...: ports and server.properties of each; needs dir, brokers
configure() {
  local broker port controller behind proxy kind wanted place voters='' copies=1 in_sync=1 listeners advertised
  ((brokers == 1)) || { copies=3; in_sync=2; }
  for broker; do
    mkdir -p "$dir/broker-$broker"
    free_port "$dir"; port=$REPLY
    free_port "$dir"; controller=$REPLY
    echo "$port $controller" >"$dir/broker-$broker/ports"
    if [[ -n ${KAFKA_PROXIED:-} ]]; then
      free_port "$dir"; behind=$REPLY
      free_port "$dir"; proxy=$REPLY
      echo "127.0.0.1:$proxy 127.0.0.1:$behind" >"$dir/broker-$broker/proxy"
    fi
    for kind in secured encrypted astray; do
      wanted=KAFKA_${kind^^}
      [[ -n ${!wanted:-} ]] || continue
      free_port "$dir"
      echo "127.0.0.1:$REPLY" >"$dir/broker-$broker/$kind"
    done
    voters+="${voters:+,}$broker@127.0.0.1:$controller"
  done
  # A killed broker's restart is refused until its session times out, 9 s by default (measured: restart took 11 s).
  for broker; do
    read -r port controller <"$dir/broker-$broker/ports"
    listeners=CLIENT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
    advertised=CLIENT://127.0.0.1:$port
    if [[ -e $dir/broker-$broker/proxy ]]; then
      read -r proxy behind <"$dir/broker-$broker/proxy"
      listeners+=,PROXIED://$behind
      advertised+=,PROXIED://$proxy
    fi
    for kind in secured encrypted astray; do
      [[ -e $dir/broker-$broker/$kind ]] || continue
      place=$(<"$dir/broker-$broker/$kind")
      listeners+=,${kind^^}://$place
      [[ $kind != astray ]] || place=no-such-host.invalid:9092
      advertised+=,${kind^^}://$place
    done
    cat >"$dir/broker-$broker/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$broker
controller.quorum.voters=$voters
listeners=$listeners
advertised.listeners=$advertised
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,SECURED:SASL_PLAINTEXT,ENCRYPTED:SSL,ASTRAY:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs=$dir/broker-$broker/data
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.retention.ms=-1
auto.create.topics.enable=false
default.replication.factor=$copies
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=10
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=10
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=1000
PROPERTIES
    [[ ! -e $dir/broker-$broker/secured ]] || cat >>"$dir/broker-$broker/server.properties" <<'PROPERTIES'
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
listener.name.secured.sasl.enabled.mechanisms=PLAIN
listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_app="app-secret";
PROPERTIES
    [[ ! -e $dir/broker-$broker/encrypted ]] || cat >>"$dir/broker-$broker/server.properties" <<PROPERTIES
listener.name.encrypted.ssl.keystore.type=PEM
listener.name.encrypted.ssl.keystore.location=$dir/broker.pem
PROPERTIES
    [[ -z ${KAFKA_MORE:-} ]] || printf '%s\n' "$KAFKA_MORE" >>"$dir/broker-$broker/server.properties"
  done
}

# format CLUSTER_ID: all brokers' data folders, in parallel
format() {
  local folder pid pids=()
  for folder in "$dir"/broker-*; do
    java "${quick[@]}" -XX:SharedArchiveFile="$archive" "$log4j" kafka.tools.StorageTool format \
      -t "$1" -c "$folder/server.properties" </dev/null >"$folder/log" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || { tail -n 20 "$dir"/broker-*/log >&2; return 1; }
  done
}

# launch BROKER...: begins all, then waits for all
launch() {
  local broker folder heap=512 flags more pid until=$((SECONDS + 60)) port
  local -A ids seen
  [[ ! -d $dir/broker-2 ]] || heap=384
  if [[ -n ${KAFKA_JVM:-} ]]; then
    read -ra flags <<<"$KAFKA_JVM"
  else
    flags=("-Xmx${heap}m" "${quick[@]}" -XX:SharedArchiveFile="$archive")
  fi
  read -ra more <<<"${KAFKA_JVM_MORE:-}"
  flags+=("${more[@]}")
  for broker; do
    folder=$dir/broker-$broker
    seen[$broker]=$(stat -c %s "$folder/log")
    begin "$folder/pid" "$folder/log" java "${flags[@]}" "$log4j" kafka.Kafka "$folder/server.properties"
    ids[$broker]=$REPLY
  done
  for broker; do
    folder=$dir/broker-$broker pid=${ids[$broker]}
    read -r port _ <"$folder/ports"
    # No pipe: grep leaves at the line, and where much is logged behind it, tail's SIGPIPE would be taken for "not ready".
    until grep -q "$ready" < <(tail -c +$((seen[$broker] + 1)) "$folder/log") &&
      (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
      if ! state "$pid" || ((SECONDS >= until)); then
        tail -n 20 "$folder/log" >&2
        kill -KILL "${ids[@]}" 2>/dev/null || true
        fail "broker $broker did not come up, see above and $folder/log" 69
      fi
      sleep 0.05
    done
  done
}

bootstrap() {
  local folder port _ servers=''
  for folder in "$dir"/broker-*; do
    read -r port _ <"$folder/ports"
    servers+="${servers:+,}127.0.0.1:$port"
  done
  echo "$servers"
}

# of_broker BROKER -> folder
of_broker() {
  folder=$dir/broker-${1:?which broker}
  [[ -d $folder ]] || fail "no broker $1 in $dir" 66
}

# end SIGNAL SECONDS [FOLDER...]: SIGKILL for those which outlive it; SIGCONT, since a paused one hears no SIGTERM
end() {
  local signal=$1 seconds=$2 folder pids=()
  shift 2
  for folder; do
    ! running "$folder/pid" "$dir" || pids+=("$REPLY")
  done
  ((${#pids[@]})) || return 0
  kill "-$signal" "${pids[@]}" 2>/dev/null || true
  kill -CONT "${pids[@]}" 2>/dev/null || true
  if ! gone_within "$seconds" "${pids[@]}"; then
    kill -KILL "${pids[@]}" 2>/dev/null || true
    gone_within 10 "${pids[@]}" || fail "processes ${pids[*]} outlive SIGKILL"
  fi
}

command=${1:-help}
case $command in
  start)
    brokers=${3:-1}
    [[ $brokers == [13] ]] || fail "1 or 3 brokers, not $brokers" 64
    new_folder "${2:?DIR}"
    dir=$REPLY
    share "$dir"
    watch_parent "$dir"
    use_jars
    archive_classes
    mapfile -t names < <(seq "$brokers")
    if [[ -n ${KAFKA_ENCRYPTED:-} ]] && ! certified=$(certify 2>&1); then
      fail "no certificates: $certified"
    fi
    configure "${names[@]}"
    format "$(cluster_id)" || fail "could not format the data folders, see above"
    launch "${names[@]}"
    bootstrap
    ;;
  stop | status | proxies | secured | encrypted | astray | remove)
    [[ $command != remove || -d ${2:?DIR} ]] || exit 0
    absolute "${2:?DIR}"
    dir=$REPLY
    [[ -e $dir/lock ]] || fail "$dir is no folder of mine" 66
    case $command in
      stop) end TERM 10 "$dir"/broker-* ;;
      proxies) cat "$dir"/broker-*/proxy ;;
      secured | encrypted | astray) cat "$dir"/broker-*/"$command" | paste -sd, ;;
      remove)
        alone "$dir"
        end KILL 10 "$dir"/broker-*
        rm -rf "$dir"
        ;;
      status)
        all=0
        for folder in "$dir"/broker-*; do
          how=down
          if running "$folder/pid" "$dir" && state "$REPLY"; then
            [[ $REPLY == T ]] && how=paused || how=up
          fi
          [[ $how == up ]] || all=1
          read -r port _ <"$folder/ports"
          echo "${folder##*-} $how 127.0.0.1:$port"
        done
        exit "$all"
        ;;
    esac
    ;;
  kill | end | restart | pause | resume)
    absolute "${2:?DIR}"
    dir=$REPLY
    of_broker "${3:?BROKER}"
    share "$dir"
    case $command in
      kill) end KILL 10 "$folder" ;;
      end) end TERM 10 "$folder" ;;
      restart)
        end TERM 10 "$folder"
        use_jars
        launch "$3"
        bootstrap
        ;;
      pause | resume)
        running "$folder/pid" "$dir" || fail "broker $3 does not run" 69
        [[ $command == pause ]] && signal=STOP || signal=CONT
        kill "-$signal" "$REPLY"
        ;;
    esac
    ;;
  tool)
    use_jars
    shift
    exec java "${quick[@]}" -XX:SharedArchiveFile="$archive" -Dtidegate.log=WARN "$log4j" "$@"
    ;;
  *)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
    ;;
esac
