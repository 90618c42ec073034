// A scene of one character. As in Unity, one thread runs all continuations, a frame's at a time.
using System;
using System.Collections.Concurrent;
using System.Threading;
using Graycat;

public sealed class Frames : SynchronizationContext
{
    readonly BlockingCollection<Action> due = new BlockingCollection<Action>();

    public override void Post(SendOrPostCallback callback, object state)
    {
        due.Add(() => callback(state));
    }

    public void Run(Func<bool> over)
    {
        while (!over()) due.Take()();
    }
}

public static class Scene
{
    // Arguments: the server, and the questions. A question that begins with "!" interrupts the answer to the one before.
    public static void Main(string[] args)
    {
        var frames = new Frames();
        SynchronizationContext.SetSynchronizationContext(frames);
        var main = Thread.CurrentThread.ManagedThreadId;
        var character = new GraycatBehaviour { server = args[0], tokenServer = args[0] + "/token" };
        var ended = 0;
        var next = 2;
        Action<string> show = line => Console.WriteLine(Thread.CurrentThread.ManagedThreadId == main ? line : "another thread");
        character.Text += piece =>
        {
            show("text " + piece);
            if (next < args.Length && args[next].StartsWith("!")) character.Ask(args[next++]);
        };
        character.Done += () => { show("done"); ended++; };
        character.Failed += sentence => { show("failed " + sentence); ended++; };
        character.Connect("session-1");
        character.Ask(args[1]);
        for (var asked = 1; ; asked++)
        {
            frames.Run(() => ended >= asked);
            // Not by a return: Mono 6.8 then now and then waits for a minute for idle threads of its pool.
            if (ended == args.Length - 1) Environment.Exit(0);
            if (ended == next - 1) character.Ask(args[next++]);
        }
    }
}
