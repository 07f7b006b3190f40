import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.Reader;
import java.io.Writer;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyPair;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.List;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.shredzone.acme4j.AccountBuilder;
import org.shredzone.acme4j.Authorization;
import org.shredzone.acme4j.Certificate;
import org.shredzone.acme4j.Identifier;
import org.shredzone.acme4j.Login;
import org.shredzone.acme4j.Order;
import org.shredzone.acme4j.RenewalInfo;
import org.shredzone.acme4j.RevocationReason;
import org.shredzone.acme4j.Session;
import org.shredzone.acme4j.Status;
import org.shredzone.acme4j.challenge.Challenge;
import org.shredzone.acme4j.challenge.Dns01Challenge;
import org.shredzone.acme4j.challenge.Http01Challenge;
import org.shredzone.acme4j.challenge.TlsAlpn01Challenge;
import org.shredzone.acme4j.util.KeyPairUtils;

/**
 * A small ACME client on acme4j:
 *
 * <pre>
 * client issue CHALLENGE FOLDER NAME…    a certificate: FOLDER/chain.pem and FOLDER/key.pem
 * client renew CHALLENGE FOLDER NAME…    another in its place, if its renewal information (RFC 9773) says so
 * client revoke FOLDER REASON
 * </pre>
 *
 * The environment says the rest: ACME_DIRECTORY, ACME_ACCOUNT (a folder, made at first), ACME_EAB_KID and
 * ACME_EAB_KEY, ACME_PROFILE, and where challenges are answered: ACME_WEBROOT (a file a token), ACME_ALPN (NAME.crt.pem
 * and NAME.key.pem), ACME_DNS_HOOK (a program: present NAME VALUE). The server is trusted by the JVM's trust store.
 */
public final class Client {
    private static final Duration LIMIT = Duration.ofSeconds(60);

    private Client() {
    }

    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        Login login = login();
        System.out.println("account " + login.getAccount().getLocation());
        List<String> rest = List.of(arguments).subList(1, arguments.length);
        switch (arguments[0]) {
            case "issue" -> obtain(login, rest, null);
            case "renew" -> {
                X509Certificate old = leaf(Path.of(rest.get(1)));
                RenewalInfo information = login.bindRenewalInfo(old);
                System.out.println("window " + information.getSuggestedWindowStart());
                if (information.renewalIsNotRequired(Instant.now())) {
                    System.out.println("not due");
                } else {
                    obtain(login, rest, old);
                }
            }
            case "revoke" -> Certificate.revoke(login, leaf(Path.of(rest.get(0))), switch (rest.get(1)) {
                case "keyCompromise" -> RevocationReason.KEY_COMPROMISE;
                case "superseded" -> RevocationReason.SUPERSEDED;
                default -> throw new IllegalArgumentException(rest.get(1));
            });
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    /** The account of the last run, or a new one. */
    private static Login login() throws Exception {
        Session session = new Session(variable("ACME_DIRECTORY"));
        Path folder = Path.of(variable("ACME_ACCOUNT"));
        Path keyFile = folder.resolve("key.pem");
        Path urlFile = folder.resolve("url");
        if (Files.exists(urlFile)) {
            try (Reader reader = Files.newBufferedReader(keyFile)) {
                URI url = URI.create(Files.readString(urlFile));
                return session.login(url.toURL(), KeyPairUtils.readKeyPair(reader));
            }
        }
        KeyPair key = KeyPairUtils.createECKeyPair("secp256r1");
        AccountBuilder builder =
            new AccountBuilder().agreeToTermsOfService().addEmail("acme4j@example.org").useKeyPair(key);
        String kid = System.getenv("ACME_EAB_KID");
        if (kid != null) {
            builder.withKeyIdentifier(kid, variable("ACME_EAB_KEY"));
        }
        Login login = builder.createLogin(session);
        Files.createDirectories(folder);
        write(keyFile, key);
        Files.writeString(urlFile, login.getAccount().getLocation().toString());
        return login;
    }

    private static void obtain(Login login, List<String> arguments, X509Certificate old) throws Exception {
        String challenge = arguments.get(0);
        Path folder = Path.of(arguments.get(1));
        List<String> names = arguments.subList(2, arguments.size());
        var builder = login.newOrder().identifiers(names.stream().map(Client::identifier).toList());
        String profile = System.getenv("ACME_PROFILE");
        if (profile != null) {
            builder.profile(profile);
        }
        if (old != null) {
            builder.replaces(old);
        }
        Order order = builder.create();
        for (Authorization authorization : order.getAuthorizations()) {
            if (authorization.getStatus() != Status.VALID) {
                Challenge chosen = authorization.findChallenge(challenge).orElseThrow();
                answer(authorization.getIdentifier(), chosen);
                chosen.trigger();
                demand(authorization.waitForCompletion(LIMIT) == Status.VALID, chosen.getError().toString());
            }
        }
        demand(order.waitUntilReady(LIMIT) == Status.READY, order.getError().toString());
        KeyPair key = KeyPairUtils.createECKeyPair("secp256r1");
        order.execute(key);
        demand(order.waitForCompletion(LIMIT) == Status.VALID, order.getError().toString());
        Files.createDirectories(folder);
        write(folder.resolve("key.pem"), key);
        try (Writer writer = Files.newBufferedWriter(folder.resolve("chain.pem"))) {
            order.getCertificate().writeCertificate(writer);
        }
    }

    private static Identifier identifier(String name) {
        return name.matches("[0-9.]+") ? Identifier.ip(name) : Identifier.dns(name);
    }

    /** Lays the answer where the server will look for it. */
    private static void answer(Identifier identifier, Challenge challenge) throws Exception {
        if (challenge instanceof Http01Challenge http) {
            Files.writeString(Path.of(variable("ACME_WEBROOT"), http.getToken()), http.getAuthorization());
        } else if (challenge instanceof TlsAlpn01Challenge tls) {
            // It signs this certificate with RSA, whatever the key.
            KeyPair key = KeyPairUtils.createKeyPair(2048);
            X509Certificate certificate = tls.createCertificate(key, identifier);
            Path folder = Path.of(variable("ACME_ALPN"));
            write(folder.resolve(identifier.getDomain() + ".key.pem"), key);
            String text = "-----BEGIN CERTIFICATE-----\n"
                + Base64.getMimeEncoder().encodeToString(certificate.getEncoded())
                + "\n-----END CERTIFICATE-----\n";
            Files.writeString(folder.resolve(identifier.getDomain() + ".crt.pem"), text);
        } else if (challenge instanceof Dns01Challenge dns) {
            var command = List.of(variable("ACME_DNS_HOOK"), "present", dns.getRRName(identifier), dns.getDigest());
            int status = new ProcessBuilder(command).inheritIO().start().waitFor();
            demand(status == 0, "the DNS hook failed");
        }
    }

    /** The certificate that the folder holds. */
    private static X509Certificate leaf(Path folder) throws Exception {
        byte[] chain = Files.readAllBytes(folder.resolve("chain.pem"));
        var certificates = CertificateFactory.getInstance("X.509")
            .generateCertificates(new ByteArrayInputStream(chain));
        return (X509Certificate) certificates.iterator().next();
    }

    private static void write(Path file, KeyPair key) throws IOException {
        try (Writer writer = Files.newBufferedWriter(file, StandardCharsets.UTF_8)) {
            KeyPairUtils.writeKeyPair(key, writer);
        }
    }

    private static String variable(String name) {
        String value = System.getenv(name);
        demand(value != null, name + " is not set");
        return value;
    }

    private static void demand(boolean condition, String message) {
        if (!condition) {
            throw new IllegalStateException(message);
        }
    }
}
