// Starts the first script of the example's README, as Unity does, and ends with the answer.
using System;
using System.Reflection;
using System.Threading;
using UnityEngine;

public static class FirstScript
{
    public static void Main()
    {
        var over = new ManualResetEvent(false);
        Debug.Logged += line => { if ("(done)".Equals(line)) over.Set(); };
        typeof(Innkeeper).GetMethod("Start", BindingFlags.Instance | BindingFlags.NonPublic).Invoke(new Innkeeper(), null);
        over.WaitOne();
        // Not by a return: Mono 6.8 then now and then waits for a minute for idle threads of its pool.
        Environment.Exit(0);
    }
}
