from django.http import HttpResponse
def container_list(request):
    return HttpResponse("soon")
