using System;
using System.Globalization;
using System.IO;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Newtonsoft.Json.Linq;

namespace Graycat
{
    /// <summary>The client without Unity: a chat or an image from a terminal. The README beside this file has the commands.</summary>
    public static class Program
    {
        const string Usage = "usage: graycat-example.exe chat | image PROMPT FILE.png";
        const string NoToken = "no token: set TOKEN to an API token, or GAME_SESSION to a session of token_server.py";
        static int status;

        public static void Main(string[] args)
        {
            try
            {
                RunAsync(args).Wait();
            }
            catch (AggregateException error) when (error.InnerException is ArgumentException)
            {
                Refuse(error.InnerException.Message);
            }
            // If Main returns, Mono 6.8 now and then waits for a minute for idle threads of its pool.
            Environment.Exit(status);
        }

        static async Task RunAsync(string[] args)
        {
            var chats = args.Length == 1 && args[0] == "chat";
            if (!chats && !(args.Length == 3 && args[0] == "image")) throw new ArgumentException(Usage);
            if (Variable("TOKEN", "").Length == 0 && Variable("GAME_SESSION", "").Length == 0) throw new ArgumentException(NoToken);
            using (var tokens = new PlayerTokens(Variable("GAME_SERVER", "http://127.0.0.1:8070/token"), Variable("GAME_SESSION", "")))
            using (var client = new GraycatClient(Variable("GRAYCAT", "http://127.0.0.1:8000"), Provider(tokens)))
            {
                client.Patience = Seconds("PATIENCE_S", client.Patience);
                client.Silence = Seconds("SILENCE_S", client.Silence);
                if (chats) await ChatAsync(client);
                else await ImageAsync(client, args[1], args[2]);
            }
        }

        static TokenProvider Provider(PlayerTokens tokens)
        {
            var fixedToken = Variable("TOKEN", "");
            if (fixedToken.Length == 0) return tokens.GetAsync;
            return (refused, cancel) => Task.FromResult(fixedToken);
        }

        /// <summary>Talk: each line that comes in is a turn. The answer is printed as it comes.</summary>
        static async Task ChatAsync(GraycatClient client)
        {
            // As a player who presses "stop": after so many pieces of each answer.
            var pieces = int.Parse(Variable("STOP_AFTER", "0"));
            var request = JObject.Parse(Variable("FIELDS", "{\"max_tokens\": 64}"));
            var messages = new JArray();
            request["messages"] = messages;
            string line;
            if (!Console.IsInputRedirected) Console.Error.WriteLine("Say something, and press Enter. Ctrl-D ends.");
            while ((line = Console.ReadLine()) != null)
            {
                messages.Add(GraycatClient.Message("user", line));
                var answer = await AnswerAsync(client, request, pieces);
                if (answer.Length > 0) messages.Add(GraycatClient.Message("assistant", answer));
                else messages.Last.Remove();
            }
        }

        static async Task<string> AnswerAsync(GraycatClient client, JObject request, int pieces)
        {
            var shown = new StringBuilder();
            using (var stop = new CancellationTokenSource())
            {
                try
                {
                    await client.ChatAsync(request, piece =>
                    {
                        shown.Append(piece);
                        Console.Write(piece);
                        if (--pieces == 0) stop.Cancel();
                    }, stop.Token);
                    Console.WriteLine();
                }
                catch (OperationCanceledException)
                {
                    Console.WriteLine(" [stopped]");
                }
                catch (GraycatError error)
                {
                    Tell(error);
                }
            }
            return shown.ToString();
        }

        static async Task ImageAsync(GraycatClient client, string prompt, string file)
        {
            var input = new JObject { ["prompt"] = prompt, ["width"] = 64, ["height"] = 64, ["steps"] = 8 };
            var cancel = CancellationToken.None;
            try
            {
                byte[] picture;
                if (Variable("ONE_CALL", "").Length > 0) picture = await client.GenerateImageAsync(input, TimeSpan.FromMinutes(10), cancel);
                else picture = await client.ImageAsync(input, progress => Console.WriteLine(progress), cancel);
                File.WriteAllBytes(file, picture);
                Console.WriteLine($"{picture.Length} bytes");
            }
            catch (GraycatError error)
            {
                Tell(error);
            }
        }

        static void Refuse(string reason)
        {
            status = 2;
            Console.Error.WriteLine(reason);
        }

        static void Tell(GraycatError error)
        {
            status = 1;
            Console.Error.WriteLine($"{error.Status} {error.Type}: {error.Message}");
        }

        static TimeSpan Seconds(string name, TimeSpan otherwise)
        {
            var value = Variable(name, "");
            return value.Length == 0 ? otherwise : TimeSpan.FromSeconds(double.Parse(value, CultureInfo.InvariantCulture));
        }

        static string Variable(string name, string otherwise)
        {
            var value = Environment.GetEnvironmentVariable(name);
            return string.IsNullOrEmpty(value) ? otherwise : value;
        }
    }
}
