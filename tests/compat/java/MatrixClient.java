import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Apache's own producer and consumer, driven over standard input and output.
 *
 * produce BOOTSTRAP TOPIC CODEC     reads records, sends them, ends when all are acknowledged
 * consume BOOTSTRAP TOPIC:PARTITION:COUNT...  writes COUNT records of each partition, from the beginning
 *
 * A record: partition (int), offset (long), timestamp (long), key, value, header count (int), name and value of each.
 * Bytes: length (int, -1 for null), then the bytes.
 */
public final class MatrixClient {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("produce")) {
            produce(args[1], args[2], args[3]);
        } else {
            consume(args);
        }
    }

    private static void produce(String bootstrap, String topic, String codec) throws Exception {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", bootstrap, "compression.type", codec, "linger.ms", 20, "batch.size", 65536);
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 16));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int left = in.readInt(); left > 0; left--) {
                sent.add(producer.send(read(in, topic)));
            }
            for (Future<RecordMetadata> one : sent) {
                one.get();
            }
        }
    }

    private static ProducerRecord<byte[], byte[]> read(DataInputStream in, String topic) throws IOException {
        int partition = in.readInt();
        in.readLong();
        long timestamp = in.readLong();
        byte[] key = readBytes(in);
        byte[] value = readBytes(in);
        List<Header> headers = new ArrayList<>();
        for (int left = in.readInt(); left > 0; left--) {
            headers.add(new RecordHeader(new String(readBytes(in), "UTF-8"), readBytes(in)));
        }
        return new ProducerRecord<>(topic, partition, timestamp, key, value, headers);
    }

    private static void consume(String[] args) throws Exception {
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out, 1 << 16));
        Map<String, Object> settings = Map.of("bootstrap.servers", args[1], "auto.offset.reset", "earliest");
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> partitions = new ArrayList<>();
            long left = 0;
            for (int i = 2; i < args.length; i++) {
                String[] parts = args[i].split(":");
                partitions.add(new TopicPartition(parts[0], Integer.parseInt(parts[1])));
                left += Long.parseLong(parts[2]);
            }
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (left > 0) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    write(out, record);
                    left--;
                }
            }
        }
        out.flush();
    }

    private static void write(DataOutputStream out, ConsumerRecord<byte[], byte[]> record) throws IOException {
        writeBytes(out, record.topic().getBytes("UTF-8"));
        out.writeInt(record.partition());
        out.writeLong(record.offset());
        out.writeLong(record.timestamp());
        writeBytes(out, record.key());
        writeBytes(out, record.value());
        Header[] headers = record.headers().toArray();
        out.writeInt(headers.length);
        for (Header header : headers) {
            writeBytes(out, header.key().getBytes("UTF-8"));
            writeBytes(out, header.value());
        }
    }

    private static byte[] readBytes(DataInputStream in) throws IOException {
        int length = in.readInt();
        return length < 0 ? null : in.readNBytes(length);
    }

    private static void writeBytes(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null) {
            out.write(bytes);
        }
    }
}
