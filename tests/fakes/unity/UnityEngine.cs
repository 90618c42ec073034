// The few names of Unity's that the example's component uses, so that it compiles without Unity.
using System;

namespace UnityEngine
{
    public class MonoBehaviour
    {
        public readonly GameObject gameObject = new GameObject();
    }

    public class GameObject
    {
        public T AddComponent<T>() where T : new()
        {
            return new T();
        }
    }

    public static class Debug
    {
        public static event Action<object> Logged;

        public static void Log(object message)
        {
            Console.WriteLine(message);
            Logged?.Invoke(message);
        }

        public static void LogWarning(object message)
        {
            Console.WriteLine($"warning {message}");
        }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class TooltipAttribute : Attribute
    {
        public TooltipAttribute(string tooltip)
        {
        }
    }

    [AttributeUsage(AttributeTargets.Field)]
    public sealed class TextAreaAttribute : Attribute
    {
        public TextAreaAttribute(int minLines, int maxLines)
        {
        }
    }
}
