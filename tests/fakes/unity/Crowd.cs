// Characters that talk at the same time, over one client.
using System;
using System.Linq;
using System.Threading;
using System.Threading.Tasks;
using Graycat;
using Newtonsoft.Json.Linq;

public static class Crowd
{
    // Arguments: the server, and how many.
    public static void Main(string[] args)
    {
        var client = new GraycatClient(args[0], (refused, cancel) => Task.FromResult("gp_1"));
        var request = new JObject { ["messages"] = new JArray(GraycatClient.Message("user", "Hello")) };
        var talks = Enumerable.Range(0, int.Parse(args[1])).Select(_ => client.ChatAsync(request, null, CancellationToken.None));
        foreach (var answer in Task.WhenAll(talks).Result) Console.WriteLine(answer);
        Environment.Exit(0);
    }
}
