import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/**
 * Apache's consumers and command line tools in one process, so that a test does not wait for a JVM a step.
 *
 * A command is a list of strings on standard input, answered by one on standard output: count (int), and of each
 * string its length (int) and bytes. An answer begins with "ok" or "error"; an error goes on with class and message.
 * "tool STDIN CLASS ARGUMENT..." runs a tool's main; all other commands are for members of groups.
 */
public final class ClientHost {
    public static void main(String[] args) throws Exception {
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 16));
        DataOutputStream out = new DataOutputStream(
            new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16));
        Tools tools = new Tools();
        try (Members members = new Members()) {
            for (int count = readCount(in); count > 0; count = readCount(in)) {
                List<String> command = read(in, count);
                write(out, answer(tools, members, command));
            }
        }
        System.exit(0);
    }

    private static List<String> answer(Tools tools, Members members, List<String> command) {
        List<String> answer = new ArrayList<>(List.of("ok"));
        try {
            if (command.get(0).equals("tool")) {
                answer.addAll(tools.run(command.get(1), command.get(2), command.subList(3, command.size())));
            } else {
                answer.addAll(members.run(command.get(0), command.get(1), command.subList(2, command.size())));
            }
        } catch (Throwable failure) {
            return List.of("error", failure.getClass().getSimpleName(), String.valueOf(failure.getMessage()));
        }
        return answer;
    }

    private static int readCount(DataInputStream in) throws IOException {
        try {
            return in.readInt();
        } catch (java.io.EOFException end) {
            return 0;
        }
    }

    private static List<String> read(DataInputStream in, int count) throws IOException {
        List<String> strings = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            strings.add(new String(in.readNBytes(in.readInt()), StandardCharsets.UTF_8));
        }
        return strings;
    }

    private static void write(DataOutputStream out, List<String> strings) throws IOException {
        out.writeInt(strings.size());
        for (String one : strings) {
            byte[] bytes = one.getBytes(StandardCharsets.UTF_8);
            out.writeInt(bytes.length);
            out.write(bytes);
        }
        out.flush();
    }
}
