import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Consumers by name. A place is TOPIC:PARTITION; a record or commit goes on with :OFFSET:VALUE or :OFFSET:METADATA. */
final class Members implements AutoCloseable {
    private static final Duration PATIENCE = Duration.ofSeconds(30);

    /** One consumer, what was taken from it, and how its commits without waiting ended. */
    private static final class Member implements ConsumerRebalanceListener {
        final KafkaConsumer<String, String> consumer;
        final List<String> revoked = new ArrayList<>();
        final List<String> commits = new ArrayList<>();

        Member(Map<String, Object> settings) {
            consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            revoked.addAll(shown(partitions));
        }
    }

    private final Map<String, Member> members = new HashMap<>();

    List<String> run(String verb, String name, List<String> rest) {
        if (verb.equals("open")) {
            Map<String, Object> settings = new HashMap<>();
            for (String one : rest) {
                settings.put(one.substring(0, one.indexOf('=')), one.substring(one.indexOf('=') + 1));
            }
            members.put(name, new Member(settings));
            return List.of();
        }
        Member member = members.get(name);
        KafkaConsumer<String, String> consumer = member.consumer;
        switch (verb) {
            case "subscribe" -> consumer.subscribe(rest, member);
            case "poll" -> {
                return poll(consumer, Duration.ofMillis(Long.parseLong(rest.get(0))));
            }
            case "assignment" -> {
                return shown(consumer.assignment());
            }
            case "revoked" -> {
                return List.copyOf(member.revoked);
            }
            case "commit" -> commit(consumer, rest);
            case "commit-async" -> consumer.commitAsync(
                (offsets, failure) -> member.commits.add(failure == null ? "ok" : failure.getClass().getSimpleName()));
            case "commits" -> {
                return List.copyOf(member.commits);
            }
            case "committed" -> {
                OffsetAndMetadata found = consumer.committed(Set.of(place(rest.get(0))), PATIENCE).get(place(rest.get(0)));
                return found == null ? List.of() : List.of(String.valueOf(found.offset()));
            }
            case "seek" -> consumer.seek(place(rest.get(0)), Long.parseLong(rest.get(0).split(":")[2]));
            case "pause" -> consumer.pause(rest.stream().map(Members::place).toList());
            case "resume" -> consumer.resume(rest.stream().map(Members::place).toList());
            case "close" -> {
                members.remove(name);
                consumer.close();
            }
            default -> throw new IllegalArgumentException(verb);
        }
        return List.of();
    }

    private static List<String> poll(KafkaConsumer<String, String> consumer, Duration wait) {
        List<String> found = new ArrayList<>();
        for (ConsumerRecord<String, String> record : consumer.poll(wait)) {
            found.add(record.topic() + ":" + record.partition() + ":" + record.offset() + ":" + record.value());
        }
        return found;
    }

    private static void commit(KafkaConsumer<String, String> consumer, List<String> given) {
        if (given.isEmpty()) {
            consumer.commitSync(PATIENCE);
            return;
        }
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (String one : given) {
            String[] parts = one.split(":", 4);
            offsets.put(place(one), new OffsetAndMetadata(Long.parseLong(parts[2]), parts[3]));
        }
        consumer.commitSync(offsets, PATIENCE);
    }

    private static TopicPartition place(String text) {
        String[] parts = text.split(":");
        return new TopicPartition(parts[0], Integer.parseInt(parts[1]));
    }

    private static List<String> shown(Collection<TopicPartition> partitions) {
        return partitions.stream().map(one -> one.topic() + ":" + one.partition()).toList();
    }

    @Override
    public void close() {
        for (Member member : members.values()) {
            member.consumer.close();
        }
    }
}
