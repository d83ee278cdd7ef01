import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Exit;

/** Runs the main of a tool as its script would, and returns exit code, standard output and standard error. */
final class Tools {
    /** What Exit.exit does here: it ends the tool, not the process. */
    private static final class Exited extends Error {
        private static final long serialVersionUID = 1L;

        Exited() {
            super(null, null, false, false);
        }
    }

    /** Where System.out or System.err go: Scala's Console keeps the stream it met first, so that one has to stay. */
    private static final class Switch extends OutputStream {
        private ByteArrayOutputStream to = new ByteArrayOutputStream();

        @Override
        public synchronized void write(int b) {
            to.write(b);
        }

        @Override
        public synchronized void write(byte[] bytes, int offset, int length) {
            to.write(bytes, offset, length);
        }

        synchronized String take() {
            String text = to.toString(StandardCharsets.UTF_8);
            to.reset();
            return text;
        }
    }

    private final Switch out = new Switch();
    private final Switch err = new Switch();
    private final List<Runnable> hooks = new ArrayList<>();
    private Integer code;

    Tools() {
        System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
        Exit.setExitProcedure(this::exit);
        Exit.setHaltProcedure(this::exit);
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
    }

    List<String> run(String given, String name, List<String> arguments) throws Exception {
        System.setIn(new ByteArrayInputStream(given.getBytes(StandardCharsets.UTF_8)));
        code = null;
        hooks.clear();
        out.take();
        err.take();
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) arguments.toArray(new String[0]));
        } catch (InvocationTargetException failure) {
            if (!(failure.getCause() instanceof Exited)) {
                failure.getCause().printStackTrace();
                code = code == null ? 1 : code;
            }
        }
        for (Runnable hook : hooks) {
            hook.run();
        }
        System.out.flush();
        System.err.flush();
        return List.of(String.valueOf(code == null ? 0 : code), out.take(), err.take());
    }

    private void exit(int status, String message) {
        code = code == null ? status : code;
        throw new Exited();
    }
}
